"""The heat equation on a periodic line: random initial states, and their exact solution, computed row by row."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from hpcnn.data.random_numbers import NormalHash, cosines
from hpcnn.data.readers.reader import Reader
from hpcnn.data.rows import Array, Buffer, ComputedRows
from hpcnn.data.sampler import Indices
from hpcnn.data.source import Source
from hpcnn.job import data as schema

RADIUS, ANGLE = range(2)
"""Random streams of the amplitudes."""


def decay(exponent: float) -> float:
    """Return exp(-exponent), correctly rounded: the C library's exp differs between machines.

    >>> decay(0.0), decay(1.0), decay(1e9)
    (1.0, 0.36787944117144233, 0.0)
    """
    from decimal import Context, Decimal

    return float(Decimal(-exponent).exp(Context(prec=40)))


def waves(modes: int, points: int) -> Array:
    """Return cos and sin of 2 pi k j / points, shape (2 modes, points), for k = 1 to `modes` at the points j."""
    places = np.arange(1, modes + 1)[:, None] * np.arange(points)  # of exact fractions of a turn
    turns = np.stack([4 * places % (4 * points), (4 * places - points) % (4 * points)], axis=1) / (4 * points)
    return cosines(turns, np.empty_like(turns), np.empty_like(turns)).reshape(2 * modes, points)


class HeatStates(ComputedRows):
    """States at one time: sums of waves whose amplitudes are random, each damped by its own factor."""

    def __init__(self, data: schema.Heat, time: float) -> None:
        super().__init__((data.samples, data.points, 1))
        self._amplitudes = NormalHash(data.seed, RADIUS, ANGLE, 2 * data.modes)
        self._drawn, self._work = Buffer((2 * data.modes,), np.float64), Buffer((data.points,), np.float64)
        # Of a wave a cos + b sin with normal a and b, amplitude and phase are independent, and the phase is uniform.
        turns = [2 * math.pi * k for k in range(1, data.modes + 1)]
        damping = [decay(turn * turn * data.diffusivity * time) for turn in turns]
        scale = np.repeat(damping, 2) / math.sqrt(data.modes)  # initial states have variance 1
        self._waves = waves(data.modes, data.points) * scale[:, None]

    def _fill(self, rows: Indices, values: Array) -> None:
        amplitudes = self._amplitudes.normal(rows, self._drawn.rows(len(rows)))
        total, work = values.reshape(len(rows), -1), self._work.rows(len(rows))
        total.fill(0)
        for number, wave in enumerate(self._waves):  # in this order, unlike in a matrix product
            np.multiply(amplitudes[:, number : number + 1], wave, out=work)
            np.add(total, work, out=total)


class HeatReader(Reader[schema.Heat]):
    """Computes pairs of states of the heat equation."""

    section = schema.Heat

    def read(self, data: schema.Heat, base: Path) -> Source:
        """Return rows that are computed when they are taken."""
        return Source(HeatStates(data, 0.0), HeatStates(data, data.time), computed=True)

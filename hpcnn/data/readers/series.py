"""A synthetic time series without end, sine waves and noise, of which windows are computed row by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hpcnn.data.random_numbers import CounterHash, NormalHash, cosines
from hpcnn.data.readers.reader import Reader
from hpcnn.data.rows import Array, Buffer, ComputedRows
from hpcnn.data.sampler import Indices, held_out_count
from hpcnn.data.source import Source
from hpcnn.job import data as schema

FREQUENCY, AMPLITUDE, PHASE, RADIUS, ANGLE = range(5)
"""Independent random streams, one for each use."""


class SeriesSteps(ComputedRows):
    """`steps` consecutive steps of the series a row: row i begins with step ``first + stride i``."""

    def __init__(self, data: schema.Series, samples: int, first: int, steps: int, row_shape: tuple[int, ...]) -> None:
        super().__init__((samples, *row_shape))
        self._first, self._stride, self._noise = first, data.stride, data.noise
        self._offsets = np.arange(steps)
        # A turn is 2^64, so that the phase of each wave is exact at any step.
        lowest = 1 / max(8, data.length)
        frequencies = lowest + _draw(data, FREQUENCY) * (0.25 - lowest)
        self._rates = [np.uint64(int(frequency * 2.0**64)) for frequency in frequencies]
        self._phases = CounterHash(data.seed, PHASE, data.components).bits(np.zeros(1, np.int64))[0]
        self._amplitudes = 0.5 + 0.5 * _draw(data, AMPLITUDE)
        self._normal = NormalHash(data.seed, RADIUS, ANGLE, 1)
        self._steps, self._bits = Buffer((steps,), np.int64), Buffer((steps,), np.uint64)
        self._work = [Buffer((steps,), np.float64) for _ in range(3)]

    def _fill(self, rows: Indices, values: Array) -> None:
        n = len(rows)
        steps, bits = self._steps.rows(n), self._bits.rows(n)
        turns, square, wave = (buffer.rows(n) for buffer in self._work)
        np.copyto(steps, self._offsets)
        np.add(steps, (rows * self._stride + self._first)[:, None], out=steps)
        total = values.reshape(steps.shape)
        self._normal.normal(steps.reshape(-1), total.reshape(-1, 1))
        np.multiply(total, self._noise, out=total)
        for rate, phase, amplitude in zip(self._rates, self._phases, self._amplitudes, strict=True):
            np.multiply(steps.view(np.uint64), rate, out=bits)
            np.add(bits, phase, out=bits)
            np.right_shift(bits, np.uint64(11), out=bits)
            np.copyto(turns, bits, casting="unsafe")
            np.multiply(turns, 2.0**-53, out=turns)
            np.multiply(cosines(turns, square, wave), amplitude, out=wave)
            np.add(total, wave, out=total)


def _draw(data: schema.Series, stream: int) -> Array:
    """Return a uniform number from [0, 1) for each component."""
    out = np.empty((1, data.components))
    CounterHash(data.seed, stream, data.components).uniform(np.zeros(1, np.int64), out)
    return out.reshape(-1)


class SeriesReader(Reader[schema.Series]):
    """Computes windows of a time series."""

    section = schema.Series

    def read(self, data: schema.Series, base: Path) -> Source:
        """Return rows that are computed when they are taken; those for validation begin where the others end."""

        def windows(samples: int, first: int) -> tuple[SeriesSteps, SeriesSteps]:
            x = SeriesSteps(data, samples, first, data.length, (data.length, 1))
            return x, SeriesSteps(data, samples, first + data.length, data.horizon, (data.horizon,))

        held = held_out_count(data.samples, data.validation_fraction)
        kept = data.samples - held
        end = (kept - 1) * data.stride + data.length + data.horizon
        return Source(*windows(kept, 0), windows(held, end) if held else None, computed=True, split=held > 0)

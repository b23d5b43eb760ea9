"""Links in NumPy: each operation passes over a block that is in the cache."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hpcnn.optim.links import Array, Chain, Kind, Link, State

_BLOCK = 16384
"""Entries whose squares are in memory at once."""


def _scale(u: Array, factor: float) -> None:
    if factor != 1.0:
        np.multiply(u, factor, out=u)


def _clip_value(u: Array, p: Array, scratch: Array, limit: float, factor: float) -> None:
    _scale(u, factor)
    np.maximum(u, -limit, out=u)
    np.minimum(u, limit, out=u)


def _decay(u: Array, p: Array, scratch: Array, rate: float, factor: float) -> None:
    _scale(u, factor)
    np.multiply(p, rate, out=scratch)
    np.add(u, scratch, out=u)


def _penalty_l1(u: Array, p: Array, scratch: Array, rate: float) -> None:
    np.sign(p, out=scratch)
    np.multiply(scratch, rate, out=scratch)
    np.add(u, scratch, out=u)


def _momentum(u: Array, p: Array, scratch: Array, momentum: float, factor: float, velocity: Array) -> None:
    _scale(u, factor)
    np.multiply(velocity, momentum, out=velocity)
    np.add(velocity, u, out=velocity)
    u[...] = velocity


def _nesterov(u: Array, p: Array, scratch: Array, momentum: float, factor: float, velocity: Array) -> None:
    _scale(u, factor)
    np.multiply(velocity, momentum, out=velocity)
    np.add(velocity, u, out=velocity)
    np.multiply(velocity, momentum, out=scratch)
    np.add(u, scratch, out=u)


def _adam(
    u: Array,
    p: Array,
    scratch: Array,
    beta_1: float,
    of_u: float,
    beta_2: float,
    of_square: float,
    epsilon: float,
    first: Array,
    second: Array,
) -> None:
    np.multiply(u, of_u, out=scratch)
    np.multiply(first, beta_1, out=first)
    np.add(first, scratch, out=first)
    np.multiply(u, u, out=u)
    np.multiply(u, of_square, out=u)
    np.multiply(second, beta_2, out=second)
    np.add(second, u, out=second)
    np.sqrt(second, out=scratch)
    np.add(scratch, epsilon, out=scratch)
    np.divide(first, scratch, out=u)


def _mean_square(u: Array, scratch: Array, rho: float, of_square: float, factor: float, square: Array) -> None:
    _scale(u, factor)
    np.multiply(u, u, out=scratch)
    np.multiply(scratch, of_square, out=scratch)
    np.multiply(square, rho, out=square)
    np.add(square, scratch, out=square)


def _divide_by_root(u: Array, square: Array, epsilon: float, scratch: Array) -> None:
    np.add(square, epsilon, out=scratch)
    np.sqrt(scratch, out=scratch)
    np.divide(u, scratch, out=u)


def _rms(
    u: Array, p: Array, scratch: Array, rho: float, of_u: float, epsilon: float, factor: float, square: Array
) -> None:
    _mean_square(u, scratch, rho, of_u, factor, square)
    _divide_by_root(u, square, epsilon, scratch)


def _rms_centered(
    u: Array,
    p: Array,
    scratch: Array,
    rho: float,
    of_u: float,
    epsilon: float,
    factor: float,
    square: Array,
    mean: Array,
) -> None:
    _mean_square(u, scratch, rho, of_u, factor, square)
    np.multiply(u, of_u, out=scratch)
    np.multiply(mean, rho, out=mean)
    np.add(mean, scratch, out=mean)
    np.multiply(mean, mean, out=scratch)
    np.subtract(square, scratch, out=scratch)
    np.maximum(scratch, 0, out=scratch)  # below 0 by rounding, where gradients hardly change
    _divide_by_root(u, scratch, epsilon, scratch)


def _adagrad(u: Array, p: Array, scratch: Array, epsilon: float, factor: float, total: Array) -> None:
    _scale(u, factor)
    np.multiply(u, u, out=scratch)
    np.add(total, scratch, out=total)
    _divide_by_root(u, total, epsilon, scratch)


def _apply(u: Array, p: Array, scratch: Array, factor: float) -> None:
    _scale(u, factor)
    np.subtract(p, u, out=p)


KINDS: dict[Kind, Callable[..., None]] = {
    Kind.SCALE: lambda u, p, scratch, factor: _scale(u, factor),
    Kind.CLIP_VALUE: _clip_value,
    Kind.DECAY: _decay,
    Kind.PENALTY_L1: _penalty_l1,
    Kind.MOMENTUM: _momentum,
    Kind.NESTEROV: _nesterov,
    Kind.ADAM: _adam,
    Kind.RMS: _rms,
    Kind.RMS_CENTERED: _rms_centered,
    Kind.ADAGRAD: _adagrad,
    Kind.APPLY: _apply,
}
"""``(updates, params, scratch, *constants, *states)``: change them in place."""


@dataclass(frozen=True)
class NumpySegment:
    """A segment in NumPy; see `Segment`."""

    updates: Array
    params: Array
    state: State
    scratch: Array
    marks: Sequence[int]

    def run(self, chain: Chain) -> None:
        """Do a chain in place."""
        for link in chain.links:
            if isinstance(link, Link):
                states = [self.state[name] for name in link.states]
                KINDS[link.kind](self.updates, self.params, self.scratch, *link.constants, *states)
            else:
                link(self.updates, self.state, self.params, self.scratch)

    def squares(self, x: Array) -> list[float]:
        """Return the sum of squares of each cell."""
        square = np.multiply(x, x, out=self.scratch)
        return [float(np.add.reduce(square[lo:hi], dtype=np.float64)) for lo, hi in pairwise(self.marks)]


class NumpyArithmetic:
    """What there is without compiled code; see `Arithmetic`. Powers and cosines are the C library's."""

    name = "numpy"

    def segment(
        self, updates: Array, params: Array, state: State, scratch: Array, marks: Sequence[int]
    ) -> NumpySegment:
        """Return a segment."""
        return NumpySegment(updates, params, state, scratch[: updates.size], marks)

    def finite_squares(self, x: Array) -> bool:
        """Return whether the sum of squares is finite."""
        return math.isfinite(np.dot(x, x))

    def total(self, x: Array, *, square: bool, spare: Array) -> float:
        """Return the sum of squares or magnitudes."""
        each = (np.square if square else np.abs)(x, out=spare)
        return float(np.add.reduce(each, dtype=np.float64))

    def cell_squares(self, x: Array, entries: int) -> Array:
        """Return the sum of squares of each cell."""
        out = np.empty(-(-x.size // entries))
        for start in range(0, len(out), _BLOCK // entries):
            piece = x[start * entries : start * entries + _BLOCK].astype(np.float64)
            np.multiply(piece, piece, out=piece)
            whole = piece.size // entries
            np.add.reduce(piece[: whole * entries].reshape(whole, entries), axis=1, out=out[start : start + whole])
            if piece.size % entries:
                out[start + whole] = np.add.reduce(piece[whole * entries :])
        return out

    def power(self, x: float, y: float) -> float:
        """Return x to the power of y."""
        return float(x**y)

    def cospi(self, x: float) -> float:
        """Return the cosine of pi x."""
        return math.cos(math.pi * x)


NUMPY = NumpyArithmetic()

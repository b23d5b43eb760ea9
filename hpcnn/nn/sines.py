"""Tables of sines of positions, and of Fourier series: the same bits on every machine."""

from __future__ import annotations

import math
from decimal import Context, Decimal
from functools import lru_cache

import numpy as np

from hpcnn.core.sine import sine
from hpcnn.nn.workspace import Array

_DIGITS = Context(prec=50)
_TWO_PI = Decimal("6.2831853071795864769252867665590057683943387987502")
_SPLIT = 2.0**27
"""The high part of a frequency ends in zeros: its product with a position below 2^26 is exact."""


@lru_cache(maxsize=8)
def position_sines(length: int, features: int, code: str) -> Array:
    """Return sin(p / 10000^(2i / features)) in column 2i of row p, and the cosine in column 2i + 1.

    Args:
        length: positions, from 0 on.
        features: columns; may be odd.
        code: type of the array, "f" or "d".

    Returns:
        an array of shape (length, features), not to be written to.

    >>> position_sines(2, 4, "d").round(6).tolist()
    [[0.0, 1.0, 0.0, 1.0], [0.841471, 0.540302, 0.01, 0.99995]]
    """
    turns = [_turns_of(column // 2 * 2, features) for column in range(features)]
    heads = [math.floor(float(turn) * _SPLIT) / _SPLIT for turn in turns]
    high = np.array(heads)
    low = np.array([float(_DIGITS.subtract(turn, Decimal(head))) for turn, head in zip(turns, heads, strict=True)])
    positions = np.arange(length, dtype=np.float64)[:, np.newaxis]
    whole = positions * high
    table = sine((whole - np.rint(whole)) + positions * low, shift=np.arange(features) % 2)
    table = table.astype(code)
    table.flags.writeable = False
    return table


def _turns_of(exponent: int, features: int) -> Decimal:
    """Return 10000^(-exponent / features) / (2 pi)."""
    power = _DIGITS.exp(_DIGITS.multiply(_DIGITS.ln(Decimal(10000)), _DIGITS.divide(-exponent, features)))
    return _DIGITS.divide(power, _TWO_PI)


@lru_cache(maxsize=8)
def analysis(length: int, modes: int, code: str) -> Array:
    """Return what makes Fourier coefficients of `length` points, frequency by frequency, in two ways.

    Args:
        length: number of points.
        modes: number of frequencies, from 0 on.
        code: type of the array, "f" or "d".

    Returns:
        an array of shape (length, modes, 2, 2), not to be written to: with re + i im the sum of x exp(-2 pi i k p /
        length), the last two axes of ``x . analysis`` are ((re, -im), (im, re)), so that their product with the
        column (re, im) of another number is the product of the two.
    """
    cosines, sines = _harmonics(length, modes)
    table: Array = np.stack([np.stack([cosines, sines], -1), np.stack([-sines, cosines], -1)], -2).astype(code)
    table.flags.writeable = False
    return table


@lru_cache(maxsize=8)
def synthesis(length: int, modes: int, code: str) -> Array:
    """Return what makes `length` points of the coefficients of the lowest frequencies, the others being 0.

    Args:
        length: number of points.
        modes: number of frequencies, from 0 on; at most length // 2 + 1.
        code: type of the array, "f" or "d".

    Returns:
        an array of shape (modes, 2, length), not to be written to: for the real and the imaginary part of each.

    >>> (0 + synthesis(4, 3, "d")[:, 0]).tolist()
    [[0.25, 0.25, 0.25, 0.25], [0.5, 0.0, -0.5, 0.0], [0.25, -0.25, 0.25, -0.25]]
    """
    cosines, sines = _harmonics(length, modes)
    frequencies = np.arange(modes)
    once = (frequencies == 0) | (2 * frequencies == length)  # these are their own conjugates
    factors = np.where(once, 1.0, 2.0)[:, np.newaxis]
    table: Array = (np.stack([cosines.T * factors, sines.T * -factors], 1) / length).astype(code)
    table.flags.writeable = False
    return table


def _harmonics(length: int, modes: int) -> tuple[Array, Array]:
    """Return cos and sin of 2 pi k p / length, float64 (length, modes)."""
    turns = np.outer(np.arange(length), np.arange(modes)) % length / length
    return sine(turns, shift=np.ones(modes)), sine(turns, shift=np.zeros(modes))

"""Sines of positions (Vaswani et al., 2017), by `+`, `-`, `x` and rounding alone: the same bits on every machine."""

from __future__ import annotations

import math
from decimal import Context, Decimal
from functools import lru_cache

import numpy as np

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
    table = _sine((whole - np.rint(whole)) + positions * low, shift=np.arange(features) % 2)
    table = table.astype(code)
    table.flags.writeable = False
    return table


def _turns_of(exponent: int, features: int) -> Decimal:
    """Return 10000^(-exponent / features) / (2 pi)."""
    power = _DIGITS.exp(_DIGITS.multiply(_DIGITS.ln(Decimal(10000)), _DIGITS.divide(-exponent, features)))
    return _DIGITS.divide(power, _TWO_PI)


def _sine(turns: Array, shift: Array) -> Array:
    """Return sin(2 pi turns + shift pi / 2), by series within an eighth of a turn."""
    quarters = np.rint(turns * 4)
    angle = (turns - quarters * 0.25) * (2 * math.pi)
    square = angle * angle
    sine, cosine = np.ones_like(angle), np.ones_like(angle)
    for n in range(18, 0, -2):  # sin a = a (1 - a^2 / (2 3) (1 - a^2 / (4 5) (1 - ...)))
        sine = 1 - square / (n * (n + 1)) * sine
        cosine = 1 - square / (n * (n - 1)) * cosine
    turned = (quarters + shift) % 4
    values = np.where(turned % 2 == 0, sine * angle, cosine)
    signed: Array = np.where(turned >= 2, -values, values)
    return signed

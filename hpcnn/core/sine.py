"""Sines by `+`, `-`, `x`, `/` and rounding alone: the same bits on every machine."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def sine(turns: Array, shift: Array | float = 0) -> Array:
    """Return sin(2 pi turns + shift pi / 2), by series within an eighth of a turn.

    >>> sine(np.array([0.0, 0.5]), 1).tolist()  # cosines
    [1.0, -1.0]
    """
    quarters = np.rint(turns * 4)
    angle = (turns - quarters * 0.25) * (2 * math.pi)
    square = angle * angle
    odd, even = np.ones_like(angle), np.ones_like(angle)
    for n in range(18, 0, -2):  # sin a = a (1 - a^2 / (2 3) (1 - a^2 / (4 5) (1 - ...)))
        odd = 1 - square / (n * (n + 1)) * odd
        even = 1 - square / (n * (n - 1)) * even
    turned = (quarters + shift) % 4
    values = np.where(turned % 2 == 0, odd * angle, even)
    signed: Array = np.where(turned >= 2, -values, values)
    return signed

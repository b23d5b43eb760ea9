"""Parses values from files that may be damaged, and formats them for reports."""

from __future__ import annotations

import datetime
import math
from typing import Any

from hpcnn.core.formatting import duration

NONE = "-"
"""Placeholder for a missing value."""
LARGEST = 1e100
"""Larger values count as infinite; they would overflow in charts."""


def number(value: Any) -> float | None:
    """Return a number of JSON as a float; None for anything else, and for what is no finite number.

    >>> number(3), number(True), number("3"), number(float("nan")), number(10**400)
    (3.0, None, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if -LARGEST < value < LARGEST else None


def whole(value: Any) -> int | None:
    """Return a whole number of JSON; None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else None


def figure(value: float | int | None) -> str:
    """Return a number with four significant digits and thousands separators.

    >>> figure(0.046128), figure(12592.2), figure(7), figure(1.2e-07), figure(None)
    ('0.04613', '12,592', '7', '1.2e-07', '-')
    """
    if value is None:
        return NONE
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) or 1000 <= abs(value) < 1e9:
        return f"{value:,.0f}" if abs(value) < 1e15 else f"{value:.4g}"
    return f"{value:.4g}"


def seconds(value: float | None) -> str:
    """Return a duration, short ones with fractions of seconds.

    >>> seconds(0.0421), seconds(12.34), seconds(3700.0), seconds(None)
    ('0.042 s', '12.3 s', '1:01:40', '-')
    """
    if value is None:
        return NONE
    if value < 60:
        return f"{value:.2g} s" if value < 1 else f"{value:.3g} s"
    return duration(value)


def moment(value: Any) -> str:
    """Return seconds since 1970 as a local date and time; what stands for nothing if they are none."""
    found = number(value)
    try:
        return NONE if found is None else datetime.datetime.fromtimestamp(found).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return NONE

"""Dates as numbers that a network can learn from: years, and the circles of the week, the year and the day."""

from __future__ import annotations

import numpy as np

from hpcnn.core.sine import sine
from hpcnn.data.rows import Array

DAY_S = 86400.0
YEAR_S = 365.2425 * DAY_S
"""A mean year of the calendar."""
_MONDAY = 3
"""1970 began on a Thursday."""


def date_features(seconds: Array, *, time: bool) -> Array:
    """Return the features of dates, (k,) seconds since 1970 in UTC: (k, 5), or (k, 7) with the time of day.

    They are years since 1970, then the sine and cosine of the place in the week, the year and the day.

    >>> date_features(np.array([0.0, YEAR_S]), time=False)[:, 0].tolist()
    [0.0, 1.0]
    """
    days = np.floor(seconds / DAY_S)
    turns = [(days + _MONDAY) % 7 / 7, _yearday(days)]
    if time:
        turns.append((seconds - days * DAY_S) / DAY_S)
    circles = [sine(turn, shift) for turn in turns for shift in (0, 1)]
    return np.stack([seconds / YEAR_S, *circles], axis=1)


def _yearday(days: Array) -> Array:
    """Return the share of its year that is over when a day begins."""
    dates = days.astype(np.int64).astype("datetime64[D]")
    years = dates.astype("datetime64[Y]")
    first, following = years.astype("datetime64[D]"), (years + 1).astype("datetime64[D]")
    share: Array = (dates - first).astype(np.float64) / (following - first).astype(np.float64)
    return share

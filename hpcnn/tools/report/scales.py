"""Scales of charts: round ticks, logarithmic axes, thinning of many points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Point = tuple[float, float | None]
"""A place and a value; None where there is none."""

_LOG_FROM, _LOG_ABOVE = 50.0, 1e-100
"""Least ratio of the largest to the smallest value for a logarithmic axis, and the least smallest value."""


@dataclass(frozen=True)
class Scale:
    """Maps values from `low` to `high` to places from `begin` to `end`."""

    low: float
    high: float
    begin: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the place of a value."""
        low, high = self._on(self.low), self._on(self.high)
        return self.begin + (self._on(value) - low) / (high - low) * (self.end - self.begin)

    def _on(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def ticks(self, most: int) -> list[float]:
        """Return round values within the scale, about `most` of them."""
        return log_ticks(self.low, self.high, most) if self.log else nice_ticks(self.low, self.high, most)


def value_scale(values: Sequence[float], begin: float, end: float, *, from_zero: bool = False) -> Scale:
    """Return a scale for some values, with a little room around them; `from_zero` shows how much they really vary."""
    low, high = min(values), max(values)
    if from_zero:
        low = min(low, 0.0)
    if low > _LOG_ABOVE and high / low >= _LOG_FROM:
        room = (high / low) ** 0.04
        return Scale(low / room, high * room, begin, end, log=True)
    spread = high - low or abs(high) * 0.1 or 1.0
    floor = 0.0 if 0 <= low < 0.5 * high else low - 0.06 * spread
    return Scale(floor, high + 0.06 * spread, begin, end)


def epoch_scale(first: float, last: float, begin: float, end: float) -> Scale:
    """Return a scale for whole numbers, also if there is a single one."""
    return Scale(first, last, begin, end) if last > first else Scale(first - 1, first + 1, begin, end)


def nice_ticks(low: float, high: float, most: int) -> list[float]:
    """Return multiples of 1, 2 or 5 times a power of ten between `low` and `high`.

    >>> nice_ticks(0.0, 1.37, 5)
    [0.0, 0.5, 1.0]
    >>> nice_ticks(1, 40, 5)
    [10.0, 20.0, 30.0, 40.0]
    """
    step = _nice_step((high - low) / most)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [place * step for place in range(first, last + 1)]


def whole_ticks(low: float, high: float, most: int) -> list[float]:
    """Return round whole numbers from `low` to `high`, and the first one.

    >>> whole_ticks(1, 40, 4), whole_ticks(1, 3, 5), whole_ticks(7, 7, 5)
    ([1, 10.0, 20.0, 30.0, 40.0], [1.0, 2.0, 3.0], [7.0])
    """
    step = max(1.0, _nice_step(max(high - low, 1.0) / most))
    found = [place * step for place in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return [low, *(value for value in found if value - low > 0.6 * step)] if step > 1 else found


def _nice_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if rough <= factor * power * (1 + 1e-9))


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Return powers of ten between `low` and `high`, and halves of them where there are few.

    >>> [f"{tick:g}" for tick in log_ticks(0.008, 30.0, 5)]
    ['0.01', '0.1', '1', '10']
    """
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    step = max(1, math.ceil((last - first + 1) / most))
    powers = [10.0**power for power in range(first, last + 1, step)]
    return powers if len(powers) > 1 else [low, high]


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """Return about `most` of the points: the smallest and the largest value of each interval, so that spikes remain.

    Of an interval with missing values the first of these is kept too, so that gaps remain.
    """
    if len(points) <= most:
        return list(points)
    size = math.ceil(2 * len(points) / most)
    kept: list[Point] = []
    for start in range(0, len(points), size):
        stretch = points[start : start + size]
        known = [point for point in stretch if point[1] is not None]
        chosen = {min(known, key=_value), max(known, key=_value)} if known else set()
        gap = next((point for point in stretch if point[1] is None), None)
        kept += sorted(chosen | ({gap} if gap else set()), key=lambda point: point[0])
    ends = [points[0], points[-1]]
    return sorted({*kept, *ends}, key=lambda point: point[0])


def _value(point: Point) -> float:
    assert point[1] is not None
    return point[1]


def sampled(count: int, most: int) -> list[int]:
    """Return at most `most` evenly spaced indices below `count`, including the first and the last.

    >>> sampled(5, 10), sampled(10, 4)
    ([0, 1, 2, 3, 4], [0, 3, 6, 9])
    """
    if count <= most:
        return list(range(count))
    return sorted({round(place * (count - 1) / (most - 1)) for place in range(most)})

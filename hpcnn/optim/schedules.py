"""Learning-rate schedules: what each step's rate is, as a share of the optimizer's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from hpcnn.job import optimizer as job

Schedule = Callable[[int], float]
"""``step -> factor``, with steps counted from 0."""
Curve = Callable[[float, Any, float], float]
"""``(time since the warm-up, section, length of the rest of the training) -> factor``."""


def _constant(t: float, s: job.Constant, rest: float) -> float:
    return 1.0


def _step(t: float, s: job.Step, rest: float) -> float:
    # With the addition, a drop is not a step late where t / every falls just below a whole number by rounding.
    return float(s.factor ** math.floor(t / s.every + 1e-9))


def _exponential(t: float, s: job.Exponential, rest: float) -> float:
    return float(s.rate ** (t / s.length))


def _inverse_time(t: float, s: job.InverseTime, rest: float) -> float:
    return 1.0 / (1.0 + s.rate * t / s.length)


def _done(t: float, s: job.Cosine | job.Polynomial, rest: float) -> float:
    length = s.length or rest
    return min(t / length, 1.0) if length > 0 else 1.0


def _cosine(t: float, s: job.Cosine, rest: float) -> float:
    return s.end + (1 - s.end) * (1 + math.cos(math.pi * _done(t, s, rest))) / 2


def _polynomial(t: float, s: job.Polynomial, rest: float) -> float:
    return float(s.end + (1 - s.end) * (1 - _done(t, s, rest)) ** s.power)


SCHEDULES: dict[type[job.ScheduleSection], Curve] = {
    job.Constant: _constant,
    job.Step: _step,
    job.Exponential: _exponential,
    job.InverseTime: _inverse_time,
    job.Cosine: _cosine,
    job.Polynomial: _polynomial,
}


def build_schedule(section: job.Schedule, *, steps_per_epoch: int, epochs: int) -> Schedule:
    """Return the schedule that the job's section describes.

    In the warm-up of n steps, step i has the factor ``start + (1 - start) x (i + 1) / n``: it ends with the full rate.

    >>> rate = build_schedule(job.Polynomial(unit="step"), steps_per_epoch=5, epochs=2)
    >>> [round(rate(step), 3) for step in (0, 5, 10)]
    [1.0, 0.5, 0.0]
    """
    unit = float(steps_per_epoch) if section.unit == "epoch" else 1.0
    curve = SCHEDULES[type(section)]
    warmup = section.warmup * unit
    rest = (steps_per_epoch * epochs - warmup) / unit

    def factor(step: int) -> float:
        if step < warmup:
            return section.warmup_start + (1 - section.warmup_start) * min(1.0, (step + 1) / warmup)
        return curve((step - warmup) / unit, section, rest)

    return factor

"""Learning-rate schedules: what each step's rate is, as a share of the optimizer's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from hpcnn.job import optimizer as job
from hpcnn.optim.arithmetic import Arithmetic
from hpcnn.optim.numpy_arithmetic import NUMPY

Schedule = Callable[[int], float]
"""``step -> factor``, with steps counted from 0."""
Curve = Callable[[float, Any, float, Arithmetic], float]
"""``(time since the warm-up, section, length of the rest of the training, arithmetic) -> factor``."""


def _done(t: float, s: job.Cosine | job.Polynomial, rest: float) -> float:
    length = s.length or rest
    return min(t / length, 1.0) if length > 0 else 1.0


SCHEDULES: dict[type[job.ScheduleSection], Curve] = {
    job.Constant: lambda t, s, rest, a: 1.0,
    # With the addition, a drop is not a step late where t / every falls just below a whole number by rounding.
    job.Step: lambda t, s, rest, a: a.power(s.factor, math.floor(t / s.every + 1e-9)),
    job.Exponential: lambda t, s, rest, a: a.power(s.rate, t / s.length),
    job.InverseTime: lambda t, s, rest, a: 1.0 / (1.0 + s.rate * t / s.length),
    job.Cosine: lambda t, s, rest, a: s.end + (1 - s.end) * (1 + a.cospi(_done(t, s, rest))) / 2,
    job.Polynomial: lambda t, s, rest, a: s.end + (1 - s.end) * a.power(1 - _done(t, s, rest), s.power),
}


def build_schedule(
    section: job.Schedule, *, steps_per_epoch: int, epochs: int, arithmetic: Arithmetic = NUMPY
) -> Schedule:
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
        return curve((step - warmup) / unit, section, rest, arithmetic)

    return factor

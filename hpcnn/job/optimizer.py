"""`[optimizer]` and `[schedule]`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from hpcnn.job.section import Fraction, NonNegative, Positive, Section, Share


class OptimizerSection(Section, frozen=True, kw_only=True, tag_field="name"):
    """Settings of every optimizer."""

    clip_norm: NonNegative = 0.0
    """Upper bound of the Euclidean norm of the whole gradient; 0: none."""
    clip_value: NonNegative = 0.0
    """Upper bound of the absolute value of each gradient entry; 0: none."""


class Sgd(OptimizerSection, frozen=True, kw_only=True, tag="sgd"):
    """Stochastic gradient descent."""

    learning_rate: Positive = 0.01
    """Step size, before the schedule."""
    momentum: Fraction = 0.0
    """Fraction of the previous update that is added."""
    nesterov: bool = False
    """Use Nesterov momentum."""
    decay: NonNegative = 0.0
    """Divide the rate of step n by 1 + decay x n, as in Keras 2."""


class AdaptiveSection(OptimizerSection, frozen=True, kw_only=True):
    """Settings of optimizers whose step size adapts to each parameter."""

    learning_rate: Positive = 0.001
    """Step size, before the schedule."""
    epsilon: Positive = 1e-07
    """Added to the denominator of the update."""


class AdamSection(AdaptiveSection, frozen=True, kw_only=True):
    """Settings of the variants of Adam."""

    beta_1: Fraction = 0.9
    """Decay of the first moment."""
    beta_2: Fraction = 0.999
    """Decay of the second moment."""


class Adam(AdamSection, frozen=True, kw_only=True, tag="adam"):
    """Adam (Kingma and Ba, 2014)."""


class AdamW(AdamSection, frozen=True, kw_only=True, tag="adamw"):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    weight_decay: NonNegative = 0.004
    """Each step multiplies each weight by 1 - rate x weight_decay."""


class RmsProp(AdaptiveSection, frozen=True, kw_only=True, tag="rmsprop"):
    """RMSprop (Tieleman and Hinton, 2012)."""

    rho: Fraction = 0.9
    """Decay of the mean square."""
    momentum: Fraction = 0.0
    """Fraction of the previous update that is added."""
    centered: bool = False
    """Divide by the variance instead of the mean square."""


class Adagrad(AdaptiveSection, frozen=True, kw_only=True, tag="adagrad"):
    """Adagrad (Duchi, Hazan and Singer, 2011)."""

    initial_accumulator_value: NonNegative = 0.1
    """Initial value of the sum of squares."""


Optimizer = Sgd | Adam | AdamW | RmsProp | Adagrad


_Length = Annotated[float, Meta(ge=1e-9)]
"""Of a schedule: a time over it stays a number."""


class ScheduleSection(Section, frozen=True, kw_only=True, tag_field="name"):
    """Settings of every schedule."""

    unit: Literal["step", "epoch"] = "epoch"
    """Unit of the lengths below."""
    warmup: NonNegative = 0.0
    """Length of a linear warm-up from `warmup_start` to the full rate."""
    warmup_start: Share = 0.0
    """Fraction of the rate at which the warm-up starts."""


class Constant(ScheduleSection, frozen=True, kw_only=True, tag="constant"):
    """A constant rate."""


class Step(ScheduleSection, frozen=True, kw_only=True, tag="step"):
    """Multiplies the rate by `factor` after each `every`."""

    every: _Length
    """Length between drops."""
    factor: Annotated[float, Meta(gt=0, le=1)] = 0.1
    """Factor of each drop."""


class Exponential(ScheduleSection, frozen=True, kw_only=True, tag="exponential"):
    """Rate x rate^(t / length)."""

    rate: Annotated[float, Meta(gt=0, le=1)]
    """Factor per `length`."""
    length: _Length = 1.0
    """Length over which `rate` applies once."""


class InverseTime(ScheduleSection, frozen=True, kw_only=True, tag="inverse_time"):
    """Rate / (1 + rate x t / length)."""

    rate: NonNegative
    """Decay per `length`."""
    length: _Length = 1.0
    """Length over which the decay is measured."""


class DecaySection(ScheduleSection, frozen=True, kw_only=True):
    """Settings of schedules that decay over the rest of the training."""

    length: _Length | None = None
    """Length of the decay after the warm-up; default: the rest of the training."""
    end: Share = 0.0
    """Fraction of the rate at the end."""


class Cosine(DecaySection, frozen=True, kw_only=True, tag="cosine"):
    """Half a cosine from the full rate to `end` (Loshchilov and Hutter, 2017)."""


class Polynomial(DecaySection, frozen=True, kw_only=True, tag="polynomial"):
    """(1 - t / length)^power from the full rate to `end`."""

    power: Positive = 1.0
    """Exponent; 1 is linear."""


Schedule = Constant | Step | Exponential | InverseTime | Cosine | Polynomial

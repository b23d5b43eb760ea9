"""`[optimizer]` and `[schedule]`: how a gradient becomes a step, and how long the step is."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from hpcnn.job.section import Fraction, NonNegative, Positive, Section, Share


class OptimizerSection(Section, frozen=True, kw_only=True, tag_field="name"):
    """What every optimizer has."""

    clip_norm: NonNegative = 0.0
    """Largest Euclidean norm of the whole gradient; 0 is no limit."""
    clip_value: NonNegative = 0.0
    """Largest absolute value of a gradient's entry; 0 is no limit."""


class Sgd(OptimizerSection, frozen=True, kw_only=True, tag="sgd"):
    """Stochastic gradient descent."""

    learning_rate: Positive = 0.01
    """Step size, before the schedule."""
    momentum: Fraction = 0.0
    """Share of the last update that is kept."""
    nesterov: bool = False
    """Nesterov's look-ahead."""
    decay: NonNegative = 0.0
    """Rate of step n is divided by 1 + decay x n, as in Keras 2."""


class AdaptiveSection(OptimizerSection, frozen=True, kw_only=True):
    """What every optimizer has whose step size adapts to each parameter."""

    learning_rate: Positive = 0.001
    """Step size, before the schedule."""
    epsilon: Positive = 1e-07
    """Added to the denominator of the update."""


class AdamSection(AdaptiveSection, frozen=True, kw_only=True):
    """What the forms of Adam have."""

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
    """Share of the last update that is kept."""
    centered: bool = False
    """Divide by the variance instead of the mean square."""


class Adagrad(AdaptiveSection, frozen=True, kw_only=True, tag="adagrad"):
    """Adagrad (Duchi, Hazan and Singer, 2011)."""

    initial_accumulator_value: NonNegative = 0.1
    """Start of the sum of squares."""


Optimizer = Sgd | Adam | AdamW | RmsProp | Adagrad


class ScheduleSection(Section, frozen=True, kw_only=True, tag_field="name"):
    """What every schedule has."""

    unit: Literal["step", "epoch"] = "epoch"
    """What the lengths below count."""
    warmup: NonNegative = 0.0
    """Length of a linear rise from `warmup_start` to the full rate, before the decay."""
    warmup_start: Share = 0.0
    """Share of the rate at which the rise starts."""


class Constant(ScheduleSection, frozen=True, kw_only=True, tag="constant"):
    """The full rate throughout."""


class Step(ScheduleSection, frozen=True, kw_only=True, tag="step"):
    """The rate times `factor` after each `every`."""

    every: Positive
    """Length between two drops."""
    factor: Annotated[float, Meta(gt=0, le=1)] = 0.1
    """What a drop multiplies by."""


class Exponential(ScheduleSection, frozen=True, kw_only=True, tag="exponential"):
    """Rate x rate^(t / length)."""

    rate: Annotated[float, Meta(gt=0, le=1)]
    """What one `length` multiplies by."""
    length: Positive = 1.0
    """Time over which `rate` applies once."""


class InverseTime(ScheduleSection, frozen=True, kw_only=True, tag="inverse_time"):
    """Rate / (1 + rate x t / length)."""

    rate: NonNegative
    """Speed of the decay."""
    length: Positive = 1.0
    """Unit of time of the decay."""


class DecaySection(ScheduleSection, frozen=True, kw_only=True):
    """What the schedules have that decay over the rest of the training."""

    length: Positive | None = None
    """Length of the decay, after the warm-up; the rest of the training if left out."""
    end: Share = 0.0
    """Fraction of the rate at the end."""


class Cosine(DecaySection, frozen=True, kw_only=True, tag="cosine"):
    """Half a cosine from the full rate to `end` (Loshchilov and Hutter, 2017)."""


class Polynomial(DecaySection, frozen=True, kw_only=True, tag="polynomial"):
    """(1 - t / length)^power from the full rate to `end`."""

    power: Positive = 1.0
    """1 is a straight line."""


Schedule = Constant | Step | Exponential | InverseTime | Cosine | Polynomial

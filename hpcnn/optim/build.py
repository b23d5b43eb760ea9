"""From the job's `[optimizer]` to an optimizer: one line in the registry for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hpcnn.job import optimizer as job
from hpcnn.optim.optimizer import Optimizer
from hpcnn.optim.transforms import (
    AddDecayedWeights,
    ClipByNorm,
    ClipByValue,
    Momentum,
    ScaleByAdagrad,
    ScaleByAdam,
    ScaleByLearningRate,
    ScaleByRms,
    Transform,
)


def _momentum(momentum: float, *, nesterov: bool = False) -> list[Transform]:
    return [Momentum(momentum, nesterov)] if momentum else []


def _adam(s: job.Adam | job.AdamW) -> Transform:
    return ScaleByAdam(s.beta_1, s.beta_2, s.epsilon)


OPTIMIZERS: dict[type[job.OptimizerSection], Callable[[Any], list[Transform]]] = {
    # The rate comes before the velocity, as in Keras: steps already taken keep the rate that they were taken with.
    job.Sgd: lambda s: [ScaleByLearningRate(), *_momentum(s.momentum, nesterov=s.nesterov)],
    job.Adam: lambda s: [_adam(s), ScaleByLearningRate()],
    job.AdamW: lambda s: [_adam(s), AddDecayedWeights(s.weight_decay), ScaleByLearningRate()],
    job.RmsProp: lambda s: [ScaleByRms(s.rho, s.epsilon, s.centered), ScaleByLearningRate(), *_momentum(s.momentum)],
    job.Adagrad: lambda s: [ScaleByAdagrad(s.initial_accumulator_value, s.epsilon), ScaleByLearningRate()],
}


def build_optimizer(section: job.Optimizer) -> Optimizer:
    """Return the optimizer that the job's section describes.

    >>> build_optimizer(job.Adam()).learning_rate
    0.001
    """
    clips = [
        *([ClipByNorm(section.clip_norm)] if section.clip_norm else []),
        *([ClipByValue(section.clip_value)] if section.clip_value else []),
    ]
    return Optimizer(
        transforms=[*clips, *OPTIMIZERS[type(section)](section)],
        learning_rate=section.learning_rate,
        decay=section.decay if isinstance(section, job.Sgd) else 0.0,
    )

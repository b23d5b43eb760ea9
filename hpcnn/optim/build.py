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

Chain = list[Transform]


def _sgd(s: job.Sgd) -> Chain:
    # The rate comes before the velocity, as in Keras: steps already taken keep the rate that they were taken with.
    return [ScaleByLearningRate(), *([Momentum(s.momentum, s.nesterov)] if s.momentum else [])]


def _adam(s: job.Adam) -> Chain:
    return [ScaleByAdam(s.beta_1, s.beta_2, s.epsilon), ScaleByLearningRate()]


def _adamw(s: job.AdamW) -> Chain:
    return [ScaleByAdam(s.beta_1, s.beta_2, s.epsilon), AddDecayedWeights(s.weight_decay), ScaleByLearningRate()]


def _rmsprop(s: job.RmsProp) -> Chain:
    momentum = [Momentum(s.momentum)] if s.momentum else []
    return [ScaleByRms(s.rho, s.epsilon, s.centered), ScaleByLearningRate(), *momentum]


def _adagrad(s: job.Adagrad) -> Chain:
    return [ScaleByAdagrad(s.initial_accumulator_value, s.epsilon), ScaleByLearningRate()]


OPTIMIZERS: dict[type[job.OptimizerSection], Callable[[Any], Chain]] = {
    job.Sgd: _sgd,
    job.Adam: _adam,
    job.AdamW: _adamw,
    job.RmsProp: _rmsprop,
    job.Adagrad: _adagrad,
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

"""Transforms of an update vector: the links that optimizers are chained from.

Each says as a `Link` what it does to a block of one flat vector, elementwise and in place, so that a block passes
through the whole chain while it is in the cache, and so that any rank may update any slice with the same bits. A
transform that needs a norm, of the whole vector or of each parameter, says so and cuts the chain: all blocks pass
through what is before it first.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from hpcnn.optim.links import Array, Block, Kind, Link


@dataclass(frozen=True)
class Parameter:
    """A named array of parameters: a segment of the vector."""

    name: str
    shape: tuple[int, ...]
    start: int
    """Its first entry in the vector."""

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Norms:
    """Euclidean norms, the same bits on any number of ranks."""

    updates: float
    """Of the updates as they go in, with the factor that is outstanding."""
    params: float
    """Of the parameters as they are; NaN where only the norm of the whole vector of updates was needed."""


class StepInfo(NamedTuple):
    """When an update happens, and what transforms may know of it."""

    step: int
    """Updates done before this one."""
    learning_rate: float
    norms: Norms | None = None
    """For a transform that `needs` them."""
    power: Callable[[float, float], float] = pow
    """The arithmetic's own."""


class Transform(ABC):
    """One link of a chain.

    Scaling is lazy: a factor that the updates are still to be multiplied by goes from link to link beside them, so that
    links which can take it into their own constants save a pass over the vector.
    """

    needs: ClassVar[Literal["nothing", "global", "per_parameter"]] = "nothing"
    """Which norms `at` is to be given: those of the whole vector, or those of the parameter that it is called for."""

    def applies_to(self, parameter: Parameter) -> bool:
        """Return whether this parameter passes through it: a mask. All do, if not overridden."""
        return True

    def init(self, params: Array) -> dict[str, Array]:
        """Return the state at the start, for parameters of shape (n,): none, if not overridden."""
        return {}

    @abstractmethod
    def at(self, info: StepInfo, factor: float) -> tuple[Link | Block | None, float]:
        """Return the work on each block of updates u at a step, and the factor that is outstanding after it.

        What goes in is ``factor x u``. What is the same for all blocks is computed here. None: nothing to do. What no
        link can do is a function in NumPy, in every arithmetic. It is called once a step, or once a step and parameter
        where some link needs norms of each, or has a mask.
        """


class ScaleByLearningRate(Transform):
    """u <- learning rate x u."""

    def at(self, info: StepInfo, factor: float) -> tuple[None, float]:
        """Leave it to the factor."""
        return None, factor * info.learning_rate


@dataclass(frozen=True)
class ClipByNorm(Transform):
    """u <- u x limit / norm, where the norm of the whole vector is above the limit (arXiv:1211.5063)."""

    limit: float
    needs = "global"

    def at(self, info: StepInfo, factor: float) -> tuple[None, float]:
        """Leave it to the factor."""
        assert info.norms is not None
        norm = info.norms.updates
        return None, factor * (self.limit / norm) if norm > self.limit else factor


@dataclass(frozen=True)
class ClipByValue(Transform):
    """u <- u limited to [-limit, limit]."""

    limit: float

    def at(self, info: StepInfo, factor: float) -> tuple[Link, float]:
        """Return the work on each block, and the factor after it."""
        return Link(Kind.CLIP_VALUE, (self.limit, factor)), 1.0


@dataclass(frozen=True)
class AddDecayedWeights(Transform):
    """u <- u + rate x params: decoupled weight decay (Loshchilov and Hutter, 2019, arXiv:1711.05101)."""

    rate: float

    def at(self, info: StepInfo, factor: float) -> tuple[Link, float]:
        """Return the work on each block, and the factor after it."""
        return Link(Kind.DECAY, (self.rate, factor)), 1.0


@dataclass(frozen=True)
class Momentum(Transform):
    """velocity <- momentum x velocity + u; u <- velocity, or momentum x velocity + u with Nesterov's look-ahead.

    Sutskever, Martens, Dahl and Hinton, ICML 2013.
    """

    momentum: float
    nesterov: bool = False

    def init(self, params: Array) -> dict[str, Array]:
        """Return a velocity of zeros."""
        return {"velocity": np.zeros_like(params)}

    def at(self, info: StepInfo, factor: float) -> tuple[Link, float]:
        """Return the work on each block, and the factor after it."""
        return Link(Kind.NESTEROV if self.nesterov else Kind.MOMENTUM, (self.momentum, factor), ("velocity",)), 1.0


@dataclass(frozen=True)
class ScaleByAdam(Transform):
    """u <- bias-corrected first moment / (sqrt(second moment) + epsilon) (Kingma and Ba, 2015, arXiv:1412.6980).

    As in the paper's last remark of section 2, and in Keras, both corrections are taken together as one factor, so
    that epsilon stands beside the uncorrected root.
    """

    beta_1: float
    beta_2: float
    epsilon: float

    def init(self, params: Array) -> dict[str, Array]:
        """Return moments of zeros."""
        return {"first_moment": np.zeros_like(params), "second_moment": np.zeros_like(params)}

    def at(self, info: StepInfo, factor: float) -> tuple[Link, float]:
        """Return the work on each block, and the factor after it."""
        t, beta_1, beta_2 = info.step + 1, self.beta_1, self.beta_2
        constants = (beta_1, (1 - beta_1) * factor, beta_2, (1 - beta_2) * (factor * factor), self.epsilon)
        correction = math.sqrt(1 - info.power(beta_2, t)) / (1 - info.power(beta_1, t))
        return Link(Kind.ADAM, constants, ("first_moment", "second_moment")), correction


@dataclass(frozen=True)
class ScaleByRms(Transform):
    """u <- u / sqrt(mean square + epsilon), or / sqrt(variance + epsilon) if centered.

    Tieleman and Hinton, 2012 (lecture 6.5); centered: Graves, 2013, arXiv:1308.0850.
    """

    rho: float
    epsilon: float
    centered: bool = False

    def init(self, params: Array) -> dict[str, Array]:
        """Return a mean square (and a mean, if centered) of zeros."""
        state = {"mean_square": np.zeros_like(params)}
        return state | {"mean": np.zeros_like(params)} if self.centered else state

    def at(self, info: StepInfo, factor: float) -> tuple[Link, float]:
        """Return the work on each block, and the factor after it."""
        constants = (self.rho, 1 - self.rho, self.epsilon, factor)
        if self.centered:
            return Link(Kind.RMS_CENTERED, constants, ("mean_square", "mean")), 1.0
        return Link(Kind.RMS, constants, ("mean_square",)), 1.0


@dataclass(frozen=True)
class ScaleByAdagrad(Transform):
    """u <- u / sqrt(sum of squares + epsilon) (Duchi, Hazan and Singer, JMLR 12, 2011)."""

    initial: float
    epsilon: float

    def init(self, params: Array) -> dict[str, Array]:
        """Return a sum of squares that starts at `initial`."""
        return {"sum_of_squares": np.full_like(params, self.initial)}

    def at(self, info: StepInfo, factor: float) -> tuple[Link, float]:
        """Return the work on each block, and the factor after it."""
        return Link(Kind.ADAGRAD, (self.epsilon, factor), ("sum_of_squares",)), 1.0

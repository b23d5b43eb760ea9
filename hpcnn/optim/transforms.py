"""Transforms of an update vector: the links that optimizers are chained from.

Each works elementwise and in place on blocks of one flat vector, so that a block passes through the whole chain while
it is in the cache, and so that any rank may update any slice with the same bits. A transform that needs a norm, of
the whole vector or of each parameter, says so and cuts the chain: all blocks pass through what is before it first.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
State = Mapping[str, Array]
"""Vectors as long as the parameters, by name."""
Block = Callable[[Array, State, Array, Array], None]
"""``(updates, state, params, scratch)``: change `updates` and `state` in place. All are equally long."""


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


@dataclass(frozen=True)
class StepInfo:
    """When an update happens, and what transforms may know of it."""

    step: int
    """Updates done before this one."""
    learning_rate: float
    norms: Norms | None = None
    """For a transform that `needs` them."""


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
    def at(self, info: StepInfo, factor: float) -> tuple[Block | None, float]:
        """Return the work on each block of updates u at a step, and the factor that is outstanding after it.

        What goes in is ``factor x u``. What is the same for all blocks is computed here. None: nothing to do. It is
        called once a step, or once a step and parameter where some link needs norms of each, or has a mask.
        """


class ScaleByLearningRate(Transform):
    """u <- learning rate x u."""

    def at(self, info: StepInfo, factor: float) -> tuple[None, float]:
        """Leave it to the factor."""
        return None, factor * info.learning_rate


def apply_scale(u: Array, factor: float) -> None:
    """Multiply the updates by the outstanding factor."""
    if factor != 1.0:
        np.multiply(u, factor, out=u)


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

    def at(self, info: StepInfo, factor: float) -> tuple[Block, float]:
        """Return the work on each block, and the factor after it."""

        def block(u: Array, state: State, params: Array, scratch: Array) -> None:
            apply_scale(u, factor)
            np.maximum(u, -self.limit, out=u)
            np.minimum(u, self.limit, out=u)

        return block, 1.0


@dataclass(frozen=True)
class AddDecayedWeights(Transform):
    """u <- u + rate x params: decoupled weight decay (Loshchilov and Hutter, 2019, arXiv:1711.05101)."""

    rate: float

    def at(self, info: StepInfo, factor: float) -> tuple[Block, float]:
        """Return the work on each block, and the factor after it."""

        def block(u: Array, state: State, params: Array, scratch: Array) -> None:
            apply_scale(u, factor)
            np.multiply(params, self.rate, out=scratch)
            np.add(u, scratch, out=u)

        return block, 1.0


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

    def at(self, info: StepInfo, factor: float) -> tuple[Block, float]:
        """Return the work on each block, and the factor after it."""

        def block(u: Array, state: State, params: Array, scratch: Array) -> None:
            apply_scale(u, factor)
            velocity = state["velocity"]
            np.multiply(velocity, self.momentum, out=velocity)
            np.add(velocity, u, out=velocity)
            if self.nesterov:
                np.multiply(velocity, self.momentum, out=scratch)
                np.add(u, scratch, out=u)
            else:
                u[...] = velocity

        return block, 1.0


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

    def at(self, info: StepInfo, factor: float) -> tuple[Block, float]:
        """Return the work on each block, and the factor after it."""
        t = info.step + 1
        correction = math.sqrt(1 - self.beta_2**t) / (1 - self.beta_1**t)
        beta_1, beta_2, epsilon = self.beta_1, self.beta_2, self.epsilon
        of_u, of_square = (1 - beta_1) * factor, (1 - beta_2) * factor**2

        def block(u: Array, state: State, params: Array, scratch: Array) -> None:
            first, second = state["first_moment"], state["second_moment"]
            np.multiply(u, of_u, out=scratch)
            np.multiply(first, beta_1, out=first)
            np.add(first, scratch, out=first)
            np.multiply(u, u, out=u)
            np.multiply(u, of_square, out=u)
            np.multiply(second, beta_2, out=second)
            np.add(second, u, out=second)
            np.sqrt(second, out=scratch)
            np.add(scratch, epsilon, out=scratch)
            np.divide(first, scratch, out=u)

        return block, correction


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

    def at(self, info: StepInfo, factor: float) -> tuple[Block, float]:
        """Return the work on each block, and the factor after it."""

        def block(u: Array, state: State, params: Array, scratch: Array) -> None:
            apply_scale(u, factor)
            square = state["mean_square"]
            np.multiply(u, u, out=scratch)
            np.multiply(scratch, 1 - self.rho, out=scratch)
            np.multiply(square, self.rho, out=square)
            np.add(square, scratch, out=square)
            if self.centered:
                mean = state["mean"]
                np.multiply(u, 1 - self.rho, out=scratch)
                np.multiply(mean, self.rho, out=mean)
                np.add(mean, scratch, out=mean)
                np.multiply(mean, mean, out=scratch)
                np.subtract(square, scratch, out=scratch)
                np.maximum(scratch, 0, out=scratch)  # below 0 by rounding, where gradients hardly change
                np.add(scratch, self.epsilon, out=scratch)
            else:
                np.add(square, self.epsilon, out=scratch)
            np.sqrt(scratch, out=scratch)
            np.divide(u, scratch, out=u)

        return block, 1.0


@dataclass(frozen=True)
class ScaleByAdagrad(Transform):
    """u <- u / sqrt(sum of squares + epsilon) (Duchi, Hazan and Singer, JMLR 12, 2011)."""

    initial: float
    epsilon: float

    def init(self, params: Array) -> dict[str, Array]:
        """Return a sum of squares that starts at `initial`."""
        return {"sum_of_squares": np.full_like(params, self.initial)}

    def at(self, info: StepInfo, factor: float) -> tuple[Block, float]:
        """Return the work on each block, and the factor after it."""

        def block(u: Array, state: State, params: Array, scratch: Array) -> None:
            apply_scale(u, factor)
            total = state["sum_of_squares"]
            np.multiply(u, u, out=scratch)
            np.add(total, scratch, out=total)
            np.add(total, self.epsilon, out=scratch)
            np.sqrt(scratch, out=scratch)
            np.divide(u, scratch, out=u)

        return block, 1.0

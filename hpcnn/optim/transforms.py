"""Transforms of an update vector: the links that optimizers are chained from.

Each works elementwise and in place on blocks of one flat vector, so that a block passes through the whole chain while
it lies in the cache, and so that any rank may update any slice with the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
State = Mapping[str, Array]
"""Vectors as long as the parameters, by name."""
Block = Callable[[Array, State, Array, Array], None]
"""``(updates, state, params, scratch)``: change `updates` and `state` in place. All are equally long."""


@dataclass(frozen=True)
class Tick:
    """When an update happens."""

    step: int
    """Updates done before this one."""
    learning_rate: float


class Transform(Protocol):
    """One link of a chain."""

    def init(self, params: Array) -> dict[str, Array]:
        """Return the state at the start, for parameters of shape (n,)."""
        ...

    def at(self, tick: Tick) -> Block:
        """Return the work on each block at `tick`: what is the same for all blocks is computed here."""
        ...


class Stateless:
    """Base of transforms that remember nothing."""

    def init(self, params: Array) -> dict[str, Array]:
        """Return no state."""
        return {}


@dataclass(frozen=True)
class Scale(Stateless):
    """u <- factor x u."""

    factor: float

    def at(self, tick: Tick) -> Block:
        """Return the work on each block."""

        def block(u: Array, state: State, params: Array, scratch: Array) -> None:
            np.multiply(u, self.factor, out=u)

        return block


class ScaleByLearningRate(Stateless):
    """u <- learning rate x u."""

    def at(self, tick: Tick) -> Block:
        """Return the work on each block."""
        return Scale(tick.learning_rate).at(tick)


@dataclass(frozen=True)
class ClipByValue(Stateless):
    """u <- u limited to [-limit, limit]."""

    limit: float

    def at(self, tick: Tick) -> Block:
        """Return the work on each block."""

        def block(u: Array, state: State, params: Array, scratch: Array) -> None:
            np.maximum(u, -self.limit, out=u)
            np.minimum(u, self.limit, out=u)

        return block


@dataclass(frozen=True)
class AddDecayedWeights(Stateless):
    """u <- u + rate x params: decoupled weight decay (Loshchilov and Hutter, 2019, arXiv:1711.05101)."""

    rate: float

    def at(self, tick: Tick) -> Block:
        """Return the work on each block."""

        def block(u: Array, state: State, params: Array, scratch: Array) -> None:
            np.multiply(params, self.rate, out=scratch)
            np.add(u, scratch, out=u)

        return block


@dataclass(frozen=True)
class Momentum:
    """velocity <- momentum x velocity + u; u <- velocity, or momentum x velocity + u with Nesterov's look-ahead.

    Sutskever, Martens, Dahl and Hinton, ICML 2013.
    """

    momentum: float
    nesterov: bool = False

    def init(self, params: Array) -> dict[str, Array]:
        """Return a velocity of zeros."""
        return {"velocity": np.zeros_like(params)}

    def at(self, tick: Tick) -> Block:
        """Return the work on each block."""

        def block(u: Array, state: State, params: Array, scratch: Array) -> None:
            velocity = state["velocity"]
            np.multiply(velocity, self.momentum, out=velocity)
            np.add(velocity, u, out=velocity)
            if self.nesterov:
                np.multiply(velocity, self.momentum, out=scratch)
                np.add(u, scratch, out=u)
            else:
                u[...] = velocity

        return block


@dataclass(frozen=True)
class ScaleByAdam:
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

    def at(self, tick: Tick) -> Block:
        """Return the work on each block."""
        t = tick.step + 1
        correction = math.sqrt(1 - self.beta_2**t) / (1 - self.beta_1**t)
        beta_1, beta_2, epsilon = self.beta_1, self.beta_2, self.epsilon

        def block(u: Array, state: State, params: Array, scratch: Array) -> None:
            first, second = state["first_moment"], state["second_moment"]
            np.multiply(u, 1 - beta_1, out=scratch)
            np.multiply(first, beta_1, out=first)
            np.add(first, scratch, out=first)
            np.multiply(u, u, out=u)
            np.multiply(u, 1 - beta_2, out=u)
            np.multiply(second, beta_2, out=second)
            np.add(second, u, out=second)
            np.sqrt(second, out=scratch)
            np.add(scratch, epsilon, out=scratch)
            np.divide(first, scratch, out=u)
            np.multiply(u, correction, out=u)

        return block


@dataclass(frozen=True)
class ScaleByRms:
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

    def at(self, tick: Tick) -> Block:
        """Return the work on each block."""

        def block(u: Array, state: State, params: Array, scratch: Array) -> None:
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
                np.add(scratch, self.epsilon, out=scratch)
            else:
                np.add(square, self.epsilon, out=scratch)
            np.sqrt(scratch, out=scratch)
            np.divide(u, scratch, out=u)

        return block


@dataclass(frozen=True)
class ScaleByAdagrad:
    """u <- u / sqrt(sum of squares + epsilon) (Duchi, Hazan and Singer, JMLR 12, 2011)."""

    initial: float
    epsilon: float

    def init(self, params: Array) -> dict[str, Array]:
        """Return a sum of squares that starts at `initial`."""
        return {"sum_of_squares": np.full_like(params, self.initial)}

    def at(self, tick: Tick) -> Block:
        """Return the work on each block."""

        def block(u: Array, state: State, params: Array, scratch: Array) -> None:
            total = state["sum_of_squares"]
            np.multiply(u, u, out=scratch)
            np.add(total, scratch, out=total)
            np.add(total, self.epsilon, out=scratch)
            np.sqrt(scratch, out=scratch)
            np.divide(u, scratch, out=u)

        return block

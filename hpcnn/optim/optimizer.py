"""An optimizer: a chain of transforms, bound to the vectors that it updates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hpcnn.errors import CheckpointError
from hpcnn.memory import aligned_empty
from hpcnn.optim.transforms import Array, Block, ClipByValue, Tick, Transform, settle
from hpcnn.tree import tree_total

BLOCK = 32768
"""Entries that pass through the chain at a time: with the state of Adam they fit the second-level cache.

Whole-vector norms are added over blocks of this size, so it is part of what defines the bits.
"""


@dataclass(frozen=True)
class Optimizer:
    """What turns a gradient into a step, without state of its own."""

    transforms: Sequence[Transform]
    """Ends with the learning rate: what comes out is subtracted from the parameters."""
    learning_rate: float
    decay: float = 0.0
    """Inverse-time decay per step."""
    clip_norm: float = 0.0
    clip_value: float = 0.0

    def init(self, params: Array) -> dict[str, Array]:
        """Return the state at the start, for parameters of shape (n,)."""
        return {name: value for transform in self.transforms for name, value in transform.init(params).items()}

    def tick(self, step: int, factor: float = 1.0) -> Tick:
        """Return the tick of `step`; `factor` is what schedules make of the learning rate."""
        return Tick(step, self.learning_rate * factor / (1 + self.decay * step))

    def bind(self, params: Array, gradient: Array) -> BoundOptimizer:
        """Return this optimizer with fresh state, for two vectors that stay where they are, both of shape (n,)."""
        return BoundOptimizer(self, params, gradient)


class BoundOptimizer:
    """An optimizer with its state, its parameters and the vector in which gradients arrive."""

    def __init__(self, optimizer: Optimizer, params: Array, gradient: Array) -> None:
        self.optimizer = optimizer
        self.state = optimizer.init(params)
        self._scratch = aligned_empty(min(BLOCK, params.size), params.dtype)
        self._blocks = [
            (gradient[part], {name: value[part] for name, value in self.state.items()}, params[part])
            for part in (slice(start, start + BLOCK) for start in range(0, params.size, BLOCK))
        ]

    def update(self, tick: Tick, count: float) -> bool:
        """Divide the gradient sum by `count` and update the parameters with it. The gradient is overwritten.

        Returns:
            Whether every gradient was finite, and its square too. If not, the parameters are no longer to be used,
            and the gradient still holds what is not finite.
        """
        finite = True
        with np.errstate(all="ignore"):  # a run that diverges is told so once, by what this returns
            work, factor = self._work(tick, count)
            for gradient, state, params in self._blocks:
                if not math.isfinite(np.dot(gradient, gradient)):
                    finite = False
                    continue  # left as it is, to be looked at
                scratch = self._scratch[: params.size]
                for block in work:
                    block(gradient, state, params, scratch)
                settle(gradient, factor)
                np.subtract(params, gradient, out=params)
        return finite

    def _work(self, tick: Tick, count: float) -> tuple[list[Block], float]:
        """Return what each block goes through, and the factor that is outstanding in the end."""
        optimizer, factor = self.optimizer, 1.0 / count
        if optimizer.clip_norm:
            norm = self.gradient_norm() / count
            if norm > optimizer.clip_norm:
                factor *= optimizer.clip_norm / norm
        clip = [ClipByValue(optimizer.clip_value)] if optimizer.clip_value else []
        work: list[Block] = []
        for transform in (*clip, *optimizer.transforms):
            block, factor = transform.at(tick, factor)
            if block is not None:
                work.append(block)
        return work, factor

    def gradient_norm(self) -> float:
        """Return the Euclidean norm of the gradient vector: squares added within blocks, blocks along the tree."""
        totals = []
        for gradient, _, _ in self._blocks:
            square = np.multiply(gradient, gradient, out=self._scratch[: gradient.size])
            totals.append(float(np.add.reduce(square, dtype=np.float64)))
        return float(np.sqrt(tree_total(totals)))

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Overwrite the state by arrays of the same names and shapes.

        Raises:
            CheckpointError: the state is another optimizer's, or of another model.
        """
        given = {name: value.shape for name, value in state.items()}
        wanted = {name: value.shape for name, value in self.state.items()}
        if given != wanted:
            raise CheckpointError(f"the optimizer state is another's: the file holds {given}, the job needs {wanted}")
        for name, value in state.items():
            self.state[name][...] = value

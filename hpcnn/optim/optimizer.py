"""An optimizer: a chain of transforms, bound to the parameters that it updates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hpcnn.core.tree import tree_total
from hpcnn.errors import CheckpointError
from hpcnn.optim.transforms import Array, Block, ClipByValue, StepInfo, Transform, apply_scale
from hpcnn.system.memory import aligned_empty

BLOCK = 32768
"""Entries that pass through the chain at a time: with the state of Adam they fit the second-level cache."""

NORM_BLOCK = 8192
"""Entries over which whole-vector norms are added at a time, counted from the first: part of what defines the bits."""


Load = Callable[[int, Array], None]
"""``(number, out) -> None``: writes the gradient sums of the part of that number."""


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

    def step_info(self, step: int, factor: float = 1.0) -> StepInfo:
        """Return the info of `step`; `factor` is what schedules make of the learning rate."""
        return StepInfo(step, self.learning_rate * factor / (1 + self.decay * step))

    def plan(self, info: StepInfo, count: float, norm: float = 0.0) -> Plan:
        """Return what each block of gradient sums over `count` samples goes through at `info`.

        `norm` is that of the whole vector of sums; only `clip_norm` needs it.
        """
        factor = 1.0 / count
        if self.clip_norm and norm / count > self.clip_norm:
            factor *= self.clip_norm / (norm / count)
        work: list[Block] = []
        for transform in (*([ClipByValue(self.clip_value)] if self.clip_value else []), *self.transforms):
            block, factor = transform.at(info, factor)
            if block is not None:
                work.append(block)
        return Plan(work, factor)

    def bind(self, params: Array, gradient: Array) -> BoundOptimizer:
        """Return this optimizer with fresh state, for two vectors that stay where they are, both of shape (n,)."""
        parts = blocks_of(params.size)

        def load(number: int, out: Array) -> None:
            np.copyto(out, gradient[parts[number]])

        return BoundOptimizer(self, params, parts, load)


@dataclass(frozen=True)
class Plan:
    """One update, the same for all blocks."""

    work: Sequence[Block]
    factor: float
    """What is to be multiplied in the end."""


def blocks_of(size: int) -> list[slice]:
    """Return the blocks of a vector of `size` entries."""
    return [slice(start, min(start + BLOCK, size)) for start in range(0, size, BLOCK)]


class BoundOptimizer:
    """An optimizer with its state, for some parts of a vector of parameters that stays where it is.

    Args:
        optimizer: what to do.
        params: the whole vector, of shape (n,).
        parts: what this one updates; none longer than `BLOCK`.
        load: writes the gradient sums of a part.
    """

    def __init__(self, optimizer: Optimizer, params: Array, parts: Sequence[slice], load: Load) -> None:
        self.optimizer, self.parts, self._load = optimizer, tuple(parts), load
        self._shape = params.shape
        sizes = [part.stop - part.start for part in parts]
        self.state = optimizer.init(np.empty(sum(sizes), params.dtype))
        """Vectors over the parts, one part after the other."""
        self.not_finite_at: int | None = None
        """The entry of the first gradient that was found not to be finite."""
        self._scratch = aligned_empty(max(sizes, default=0), params.dtype)
        self._gradient = aligned_empty(max(sizes, default=0), params.dtype)
        self._blocks = []
        position = 0
        for part, size in zip(parts, sizes, strict=True):
            own = slice(position, position + size)
            self._blocks.append(
                (self._gradient[:size], {name: value[own] for name, value in self.state.items()}, params[part])
            )
            position += size

    def update(self, info: StepInfo, count: float) -> bool:
        """Update all parts; return whether every gradient was finite.

        Where `clip_norm` is set, the parts must be the whole vector.
        """
        with np.errstate(all="ignore"):  # a run that diverges is told so once, by what this returns
            norm = norm_of(self.square_totals()) if self.optimizer.clip_norm else 0.0
            plan = self.optimizer.plan(info, count, norm)
            finite = [self.update_part(plan, number) for number in range(len(self.parts))]
        return all(finite)

    def update_part(self, plan: Plan, number: int) -> bool:
        """Update the part of that number.

        Returns:
            Whether every gradient was finite, and its square too. If not, nothing has changed.
        """
        gradient, state, params = self._blocks[number]
        self._load(number, gradient)
        if not math.isfinite(np.dot(gradient, gradient)):
            wrong = np.flatnonzero(~np.isfinite(gradient))
            if wrong.size and self.not_finite_at is None:
                self.not_finite_at = self.parts[number].start + int(wrong[0])
            return False
        scratch = self._scratch[: params.size]
        for block in plan.work:
            block(gradient, state, params, scratch)
        apply_scale(gradient, plan.factor)
        np.subtract(params, gradient, out=params)
        return True

    def square_totals(self) -> list[float]:
        """Return the sum of the squared gradient sums of each `NORM_BLOCK` entries of the parts."""
        totals: list[float] = []
        for number, (gradient, _, _) in enumerate(self._blocks):
            self._load(number, gradient)
            square = np.multiply(gradient, gradient, out=gradient)
            blocks = [square[start : start + NORM_BLOCK] for start in range(0, square.size, NORM_BLOCK)]
            totals += [float(np.add.reduce(block, dtype=np.float64)) for block in blocks]
        return totals

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Take the own parts of whole vectors, of the names of the state and the shape of the parameters.

        Raises:
            CheckpointError: the state is another optimizer's, or of another model.
        """
        given = {name: value.shape for name, value in state.items()}
        wanted = dict.fromkeys(self.state, self._shape)
        if given != wanted:
            raise CheckpointError(f"the optimizer state is another's: the file holds {given}, the job needs {wanted}")
        for name, own in self.state.items():
            np.concatenate([state[name][part] for part in self.parts] or [own[:0]], out=own)


def norm_of(totals: Sequence[float]) -> float:
    """Return the Euclidean norm of a vector from the sums of squares of its blocks, added along the tree."""
    return math.sqrt(tree_total(totals))

"""What all operations of the compiled core share: whose gradients are summed, and arrays as the core takes them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.core.tree import Subtree, leaf_steps
from hpcnn.kernels import core
from hpcnn.nn.activations import ACTIVATIONS
from hpcnn.nn.arithmetic import Grad
from hpcnn.nn.workspace import Array

CODES = {name: code for code, name in enumerate(ACTIVATIONS)}
"""Numbers of the activations in the core, which lists them in the same order."""
SAVES_SLOPE = {"gelu", "swish"}
"""The activations that save their derivative for the pass back; that of the others is computed from the output."""


class ShardRows:
    """Which rows of a batch belong to which gradient shard, for the subtrees that one rank contributes.

    Args:
        subtrees: left to right; next to each other.
        starts: the first row of each of their leaves, and the end of the last; the first is 0.
    """

    def __init__(self, subtrees: Sequence[Subtree], starts: Sequence[int]) -> None:
        self.subtrees, self.starts = tuple(subtrees), tuple(starts)
        self._groups = [0]
        self._folds: list[int] = []
        for subtree in subtrees:
            self._folds += [len(step.fold) for step in leaf_steps(subtree)]
            self._groups.append(len(self._folds))
        self._by_factor: dict[int, Any] = {}

    @property
    def leaves(self) -> int:
        """How many shards there are."""
        return len(self.starts) - 1

    @cached_property
    def one_row_each(self) -> Any:
        """The core's description of the shards for an array with one row for each."""
        return ShardRows(self.subtrees, range(self.leaves + 1)).times(1)

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """The rows [first, end) of each subtree."""
        return [(self.starts[first], self.starts[end]) for first, end in pairwise(self._groups)]

    def times(self, factor: int) -> Any:
        """Return the core's description of the shards, where each sample has `factor` rows."""
        if factor not in self._by_factor:
            rows = [start * factor for start in self.starts]
            self._by_factor[factor] = core.Shards(self._groups, rows, self._folds)
        return self._by_factor[factor]

    def of(self, rows: int) -> Any:
        """Return the same for `rows` rows in all."""
        return self.times(rows // self.starts[-1] if rows else 1)


class NativeBase:
    """One pass by the core; each family of operations is a subclass.

    Args:
        target: what takes the operations: the core does them at once, a `core.Program` keeps them.
        shards: whose gradients are summed; None: a pass is one shard.
        seed: that of the random draws.
        place: the number of the first sample in its batch, and the step: uint32 (2,), read when an operation is done.
    """

    def __init__(
        self, target: Any = core, shards: ShardRows | None = None, *, seed: int = 0, place: Array | None = None
    ) -> None:
        self._do, self._shards, self._seed = target, shards, seed
        self._place = np.zeros(2, np.uint32) if place is None else place
        self._draws = 0

    def _plain(self, array: Array, dtype: DTypeLike) -> Array:
        """Return the array C-ordered and of that type, which what a layer of one's own returns need not be."""
        plain = np.require(array, dtype, "C")
        assert plain is array or self._do is core, "a program would keep the copy"
        return plain

    def _own(self, dy: Array, dtype: DTypeLike) -> Array:
        """Return the same, in memory that may be written to."""
        return self._plain(dy if dy.flags.writeable else dy.copy(), dtype)

    def _pull(self, activation: str, saved: Array, dy: Array) -> Array:
        """Return dy times the derivative, in the memory of dy."""
        if activation != "linear":
            self._do.activate_backward(CODES[activation], saved, dy, dy)
        return dy

    def _shards_of(self, rows: int) -> Any:
        return (self._shards or one_shard(rows)).of(rows)


def real_type(x: Array) -> DTypeLike:
    """Return the type in which the core computes with an array."""
    return x.dtype if x.dtype.char in "fd" else np.float64


def one_shard(rows: int) -> ShardRows:
    """Return the rows of a pass that is one shard."""
    return ShardRows([(0, 1)], [0, rows])


def sums(grad: Grad) -> tuple[Array, ...]:
    """Return a gradient as one array for each subtree."""
    return grad if isinstance(grad, tuple) else (grad,)

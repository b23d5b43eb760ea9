"""Buffers that a rank fills for the exchange, and their addition along the tree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.comm.protocol import Array, Contribution
from hpcnn.core.tree import Subtree, additions_below
from hpcnn.system.memory import ALIGNMENT

BLOCK = 32768
"""Entries that are added at a time: what is added, and what comes of it, stays in the second-level cache."""


class BufferLayout:
    """Where the vectors and stats of some subtrees are in one array of bytes."""

    def __init__(self, count: int, length: int, dtype: DTypeLike, stats_length: int, *, alignment: int = ALIGNMENT):
        """Lay out `count` slots: their vectors first, each at a multiple of `alignment`, then their stats."""
        self._count, self._length, self._stats_length = count, length, stats_length
        self._dtype = np.dtype(dtype)
        self._vector_size = _whole(length * self._dtype.itemsize, alignment)
        self._stats_size = _whole(stats_length * 8, ALIGNMENT)
        self.size = count * (self._vector_size + self._stats_size)
        """Bytes in all."""

    def vectors(self, memory: Array) -> list[Array]:
        """Return the vectors as views of `memory`, bytes."""
        return [self._view(memory, slot * self._vector_size, self._length, self._dtype) for slot in range(self._count)]

    def stats(self, memory: Array) -> list[Array]:
        """Return the stats as views of `memory`, bytes."""
        first, float64 = self._count * self._vector_size, np.dtype(np.float64)
        return [
            self._view(memory, first + slot * self._stats_size, self._stats_length, float64)
            for slot in range(self._count)
        ]

    def contributions(self, memory: Array, subtrees: Sequence[Subtree]) -> list[Contribution]:
        """Return the slots as contributions of `subtrees`."""
        parts = zip(subtrees, self.vectors(memory), self.stats(memory), strict=True)
        return [Contribution(subtree, vector, stats) for subtree, vector, stats in parts]

    @staticmethod
    def _view(memory: Array, start: int, length: int, dtype: np.dtype[Any]) -> Array:
        return memory[start : start + length * dtype.itemsize].view(dtype)


def _whole(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def fold(slots: Sequence[Array], order: Sequence[tuple[int, int]], out: Array) -> None:
    """Sum `slots`, equally long vectors, along `order` (see `hpcnn.core.tree.additions`) into `out`.

    Goes block by block, so that what is added stays in the cache. Overwrites the slots.
    """
    if out.size <= BLOCK:
        fold_block(slots, order, out)
        return
    for start in range(0, out.size, BLOCK):
        part = slice(start, start + BLOCK)
        fold_block([slot[part] for slot in slots], order, out[part])


def fold_block(slots: Sequence[Array], order: Sequence[tuple[int, int]], out: Array) -> None:
    """Sum `slots` as `fold` does, all at once."""
    if not order:
        if out is not slots[0]:
            np.copyto(out, slots[0])
        return
    for left, right in order[:-1]:
        np.add(slots[left], slots[right], out=slots[left])
    left, right = order[-1]
    np.add(slots[left], slots[right], out=out)


def summing(
    total: Array, subtree: Subtree, slots: Sequence[Array], subtrees: Sequence[Subtree]
) -> list[Callable[[], Any]]:
    """Return the steps that sum the slots below `subtree` into `total` and leave the slots as they are."""
    order = additions_below(subtree, subtrees)
    if not order:
        return [partial(np.copyto, total, slots[subtrees.index(subtree)])]
    sums = list(slots)
    steps: list[Callable[[], Any]] = []
    for number, (left, right) in enumerate(order):
        out = total if number == len(order) - 1 else np.empty_like(total)
        steps.append(partial(np.add, sums[left], sums[right], out))
        sums[left] = out
    return steps

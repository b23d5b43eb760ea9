"""The canonical summation tree: the one order in which numbers of different shards are ever added.

The leaves 0 .. V-1 form a binary tree that splits [lo, hi) at (lo + hi) // 2. Floating-point addition is not
associative, so a sum is the same on any number of ranks only if every rank adds along this tree: each contributes the
sums of the maximal subtrees whose leaves it owns, and the rest of the tree is added from those.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

Subtree = tuple[int, int]
"""The leaves [lo, hi) of a subtree."""


def owned_leaves(leaves: int, size: int, rank: int) -> Subtree:
    """Return the contiguous leaves [lo, hi) that `rank` of `size` computes; empty for some ranks if size > leaves.

    >>> [owned_leaves(8, 3, rank) for rank in range(3)]
    [(0, 2), (2, 5), (5, 8)]
    """
    return leaves * rank // size, leaves * (rank + 1) // size


def maximal_subtrees(leaves: int, owned: Subtree, groups: int = 1) -> list[Subtree]:
    """Return the largest subtrees over `leaves` that lie within `owned`, left to right.

    There are O(log leaves) of them, and one where `owned` is itself a subtree. `groups`, a power of two, splits those
    that are larger than the subtrees at the depth that has `groups` of them.

    >>> maximal_subtrees(8, (2, 5))
    [(2, 4), (4, 5)]
    >>> maximal_subtrees(8, (0, 5), groups=4)
    [(0, 2), (2, 4), (4, 5)]
    """

    def descend(lo: int, hi: int, groups: int) -> list[Subtree]:
        if groups == 1 and owned[0] <= lo and hi <= owned[1]:
            return [(lo, hi)]
        if hi <= owned[0] or owned[1] <= lo or hi - lo == 1:
            return []
        middle, below = (lo + hi) // 2, max(1, groups // 2)
        return descend(lo, middle, below) + descend(middle, hi, below)

    return descend(0, leaves, groups) if leaves else []


def additions(leaves: int, subtrees: Sequence[Subtree]) -> list[tuple[int, int]]:
    """Return the additions that sum `subtrees`, which cover all leaves from left to right, into the first of them.

    Each pair (i, j) means: add the value of slot j to slot i. In the end slot 0 holds the sum.

    >>> additions(8, [(0, 2), (2, 4), (4, 5), (5, 6), (6, 8)])
    [(0, 1), (2, 3), (2, 4), (0, 2)]
    """
    assert leaves > 0
    return additions_below((0, leaves), subtrees)


def additions_below(subtree: Subtree, subtrees: Sequence[Subtree]) -> list[tuple[int, int]]:
    """Return the additions that sum those of `subtrees` which cover `subtree` into the first of them.

    >>> additions_below((4, 8), [(2, 4), (4, 5), (5, 6), (6, 8)])
    [(1, 2), (1, 3)]
    """
    slot = {subtree: place for place, subtree in enumerate(subtrees)}
    order: list[tuple[int, int]] = []

    def descend(lo: int, hi: int) -> int:
        if (lo, hi) in slot:
            return slot[lo, hi]
        middle = (lo + hi) // 2
        left, right = descend(lo, middle), descend(middle, hi)
        order.append((left, right))
        return left

    descend(*subtree)
    return order


@dataclass(frozen=True)
class LeafStep:
    """One step in summing the leaves of a subtree: compute `leaf` into `slot`, then add later slots to earlier ones.

    `fold` lists pairs (i, j): add slot j to slot i.
    """

    leaf: int
    slot: int
    fold: tuple[tuple[int, int], ...]


def leaf_steps(subtree: Subtree) -> list[LeafStep]:
    """Return the steps that sum the leaves of `subtree` in tree order, with one accumulator per level of the tree.

    Slot 0 holds the sum in the end.

    >>> for step in leaf_steps((0, 4)):
    ...     print(step.leaf, step.slot, step.fold)
    0 0 ()
    1 1 ((0, 1),)
    2 1 ()
    3 2 ((1, 2), (0, 1))
    """
    steps: list[LeafStep] = []

    def descend(lo: int, hi: int, slot: int) -> None:
        if hi - lo == 1:
            steps.append(LeafStep(lo, slot, ()))
            return
        middle = (lo + hi) // 2
        descend(lo, middle, slot)
        descend(middle, hi, slot + 1)
        last = steps[-1]
        steps[-1] = LeafStep(last.leaf, last.slot, (*last.fold, (slot, slot + 1)))

    descend(*subtree, 0)
    return steps


def fold_leaves(subtree: Subtree, leaf: Callable[[int], T], combine: Callable[[T, T], T]) -> T:
    """Return ``leaf(i)`` of all leaves of `subtree`, combined along the tree. Keeps O(log leaves) values at a time.

    >>> fold_leaves((0, 5), str, lambda left, right: f"({left}+{right})")
    '((0+1)+(2+(3+4)))'
    """
    lo, hi = subtree
    if hi - lo == 1:
        return leaf(lo)
    middle = (lo + hi) // 2
    return combine(fold_leaves((lo, middle), leaf, combine), fold_leaves((middle, hi), leaf, combine))


def tree_total(values: Sequence[float]) -> float:
    """Return the sum of `values`, one per leaf, in tree order.

    >>> tree_total([1.0, 2.0, 3.0])
    6.0
    """
    return fold_leaves((0, len(values)), lambda i: float(values[i]), operator.add) if len(values) else 0.0


def fold_rows(rows: NDArray[Any]) -> NDArray[Any]:
    """Return the sum of `rows` (leaves, ...), one for each leaf of a subtree, along the tree.

    >>> fold_rows(np.arange(10.0).reshape(5, 2)).tolist()
    [20.0, 25.0]
    """
    leaves = len(rows)
    if leaves & (leaves - 1):  # no power of two: the two halves have trees of their own
        return np.asarray(np.add(fold_rows(rows[: leaves // 2]), fold_rows(rows[leaves // 2 :])))
    while len(rows) > 1:
        rows = np.add(rows[::2], rows[1::2])
    return np.asarray(rows[0])

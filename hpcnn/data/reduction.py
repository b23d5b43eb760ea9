"""Sums and maxima over all data, one leaf a chunk, added up in an order that no number of ranks can change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Leaf = Callable[[int], NDArray[np.float64]]
"""``leaf(i)``: a new array; all leaves have one shape."""


class Reduction(Protocol):
    """Reductions over leaves that all ranks share out among themselves.

    Both are collective: every rank calls them in the same order, with the same number of leaves and shapes. So no
    rank may raise alone between two calls: count what is wrong, sum the counts, then raise on all ranks alike.
    """

    def sum(self, n_leaves: int, leaf: Leaf) -> NDArray[np.float64]:
        """Return the sum of ``leaf(0) ... leaf(n_leaves - 1)`` along the tree that splits [lo, hi) at (lo+hi)//2."""
        ...

    def max(self, n_leaves: int, leaf: Leaf) -> NDArray[np.float64]:
        """Return the elementwise maximum over all leaves."""
        ...


class SerialReduction:
    """All leaves on this rank. It keeps log2(n_leaves) arrays at a time."""

    def sum(self, n_leaves: int, leaf: Leaf) -> NDArray[np.float64]:
        """Return the sum of all leaves; see `Reduction.sum`."""
        return self._fold(np.add, leaf, 0, n_leaves)

    def max(self, n_leaves: int, leaf: Leaf) -> NDArray[np.float64]:
        """Return the elementwise maximum over all leaves."""
        return self._fold(np.maximum, leaf, 0, n_leaves)

    def _fold(self, combine: np.ufunc, leaf: Leaf, lo: int, hi: int) -> NDArray[np.float64]:
        if hi - lo == 1:
            return leaf(lo)
        mid = (lo + hi) // 2
        total: NDArray[np.float64] = combine(self._fold(combine, leaf, lo, mid), self._fold(combine, leaf, mid, hi))
        return total


SERIAL = SerialReduction()

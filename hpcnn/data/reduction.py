"""Sums and maxima over all data, one leaf a chunk, added up in an order that no number of ranks can change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hpcnn.core.tree import fold_leaves

Leaf = Callable[[int], NDArray[np.float64]]
"""``leaf(i)``: a new array; all leaves have one shape."""


class Reduction(Protocol):
    """Reductions over leaves that all ranks share out among themselves.

    Both are collective: every rank calls them in the same order, with the same number of leaves and shapes. So no
    rank may raise alone between two calls: count what is wrong, sum the counts, then raise on all ranks alike.
    """

    def sum(self, n_leaves: int, leaf: Leaf) -> NDArray[np.float64]:
        """Return the sum of ``leaf(0) ... leaf(n_leaves - 1)`` along the tree (see `hpcnn.core.tree`)."""
        ...

    def max(self, n_leaves: int, leaf: Leaf) -> NDArray[np.float64]:
        """Return the elementwise maximum over all leaves."""
        ...


class SerialReduction:
    """All leaves on this rank."""

    def sum(self, n_leaves: int, leaf: Leaf) -> NDArray[np.float64]:
        """Return the sum of all leaves; see `Reduction.sum`."""
        return fold_leaves((0, n_leaves), leaf, np.add)

    def max(self, n_leaves: int, leaf: Leaf) -> NDArray[np.float64]:
        """Return the elementwise maximum over all leaves."""
        return fold_leaves((0, n_leaves), leaf, np.maximum)


SERIAL = SerialReduction()

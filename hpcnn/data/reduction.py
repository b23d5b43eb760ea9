"""Sums and maxima over all data, with one leaf per chunk, in an order that does not depend on the number of ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hpcnn.core.tree import fold_leaves

Array = NDArray[Any]
Leaf = Callable[[int], NDArray[np.float64]]
"""``leaf(i)``: a new array; all leaves have one shape."""


class Reduction(Protocol):
    """Reductions over leaves that are distributed over the ranks.

    Both are collective: every rank calls them in the same order, with the same number of leaves and shapes. So a rank
    must not raise alone between two calls: count errors, sum the counts, then raise on all ranks.
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


def totals(axis: int | None, arithmetic: str) -> Callable[[Array], Array]:
    """Return ``values -> sum over that axis, or over all``."""
    if arithmetic == "numpy":
        return lambda values: np.asarray(values.sum(axis=axis))
    from hpcnn.kernels import core

    def total(values: Array) -> Array:
        """Add row by row, in order."""
        out = np.empty(values.shape[1:] if axis == 0 else ())
        rows = values.reshape(-1, max(1, out.size))
        core.column_sums(core.Shards([0, 1], [0, len(rows)], [0]), rows, None, (out.reshape(-1),))
        return out

    return total

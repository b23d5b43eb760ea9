"""The squared norm of a vector whose parts are on different ranks: the same bits, however it is cut."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from hpcnn.comm.protocol import Array
from hpcnn.core.tree import fold_rows
from hpcnn.optim.arithmetic import Arithmetic

Squares = Mapping[tuple[int, int], float]
"""Sums of squares of nodes of the binary tree over all cells: (first cell, number of cells, a power of two) -> sum."""


def cell_entries(length: int) -> int:
    """Return the entries of a cell, the leaf of the tree, for a vector: parts of it begin at multiples.

    Few, where ranks share a short vector; else so many that the sum over a cell takes no longer than its squares.
    """
    return 8 if length < 4096 else 128


def squares_of(part: Array, start: int, length: int, arithmetic: Arithmetic) -> Squares:
    """Return the sums of squares, in float64, of the largest nodes that a part of a vector fills.

    Args:
        part: the entries from `start` on, (n,).
        start: where a cell begins.
        length: of the whole vector. What the tree has beyond it counts as zeros.
        arithmetic: what computes.

    >>> from hpcnn.optim.numpy_arithmetic import NUMPY
    >>> squares_of(np.ones(24, np.float32), 0, 24, NUMPY)
    {(0, 4): 24.0}
    """
    entries = cell_entries(length)
    assert start % entries == 0, "a part of the vector begins within a cell"
    cells, first = arithmetic.cell_squares(part, entries), start // entries
    end = first + len(cells)
    if start + len(part) == length:
        end = 1 << (end - 1).bit_length()
        cells = np.concatenate([cells, np.zeros(end - first - len(cells))])
    nodes: dict[tuple[int, int], float] = {}
    at = first
    while at < end:
        size = 1 << (end - at).bit_length() - 1
        size = min(size, at & -at) if at else size
        nodes[at, size] = float(fold_rows(cells[at - first : at - first + size]))
        at += size
    return _joined(nodes)


def squared_norm(parts: Iterable[Squares]) -> float:
    """Return the sum of squares of a vector by the nodes of all its parts, of which some may come more than once."""
    whole = _joined({node: total for part in parts for node, total in part.items()})
    assert len(whole) == 1, "some part of the vector is missing"
    return next(iter(whole.values()))


def _joined(nodes: Squares) -> Squares:
    """Add nodes that are the two halves of another, as long as there are some."""
    joined = dict(nodes)
    size = 1
    while len(joined) > 1 and size <= max(cells for _, cells in joined):
        for first in [first for first, cells in joined if cells == size and first % (2 * size) == 0]:
            if (first + size, size) in joined:
                joined[first, 2 * size] = joined.pop((first, size)) + joined.pop((first + size, size))
        size *= 2
    return joined

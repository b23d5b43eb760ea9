"""The squared norm of a vector whose parts are on different ranks: the same bits, however it is cut."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from hpcnn.comm.protocol import Array

CELL = 8
"""Entries of a cell, the leaf of the tree: parts of a vector begin at multiples of it (lines of 64 bytes do)."""
_MOST_CELLS = 8192
"""Cells whose squares are in memory at once."""

Squares = Mapping[tuple[int, int], float]
"""Sums of squares of nodes of the binary tree over all cells: (first cell, number of cells, a power of two) -> sum."""


def squares_of(part: Array, start: int, length: int) -> Squares:
    """Return the sums of squares, in float64, of the largest nodes that a part of a vector fills.

    Args:
        part: the entries from `start` on, (n,).
        start: a multiple of `CELL`.
        length: of the whole vector. What the tree has beyond it counts as zeros.

    >>> squares_of(np.ones(24, np.float32), 0, 24)
    {(0, 4): 24.0}
    """
    assert start % CELL == 0, "parts of the vector are not cut at whole cells"
    first = at = start // CELL
    filled = first + -(-len(part) // CELL)
    end = 1 << max(0, -(-length // CELL) - 1).bit_length() if start + len(part) == length else filled
    nodes: dict[tuple[int, int], float] = {}
    while at < end:
        cells = 1 << (end - at).bit_length() - 1
        cells = min(cells, at & -at) if at else cells
        if at < filled:
            cells = min(cells, _MOST_CELLS)
        nodes[at, cells] = (
            _total(part[(at - first) * CELL : (at - first + cells) * CELL], cells) if at < filled else 0.0
        )
        at += cells
    return _joined(nodes)


def squared_norm(parts: Iterable[Squares]) -> float:
    """Return the sum of squares of a vector by the nodes of all its parts, of which some may come more than once."""
    whole = _joined({node: total for part in parts for node, total in part.items()})
    assert len(whole) == 1, "some part of the vector is missing"
    return next(iter(whole.values()))


def _total(entries: Array, cells: int) -> float:
    """Return the sum of squares of so many cells along the tree; the last ones may be empty."""
    squares = np.zeros((cells, CELL))
    np.square(entries, out=squares.reshape(-1)[: len(entries)], dtype=np.float64)
    pairs = squares[:, : CELL // 2] + squares[:, CELL // 2 :]
    pairs = pairs[:, : CELL // 4] + pairs[:, CELL // 4 :]
    sums = pairs[:, 0] + pairs[:, 1]
    while len(sums) > 1:
        sums = sums[::2] + sums[1::2]
    return float(sums[0])


def _joined(nodes: Squares) -> Squares:
    """Add nodes that are the two halves of another, as long as there are some."""
    joined = dict(nodes)
    cells, end = 1, max(first + cells for first, cells in joined) if joined else 0
    while cells < end:
        for first in [first for first, size in joined if size == cells and first % (2 * cells) == 0]:
            if (first + cells, cells) in joined:
                joined[first, 2 * cells] = joined.pop((first, cells)) + joined.pop((first + cells, cells))
        cells *= 2
    return joined

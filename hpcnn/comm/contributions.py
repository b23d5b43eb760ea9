"""Buffers that a rank fills for the exchange, and the check that there are shards enough."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.comm.protocol import Array, Contribution
from hpcnn.errors import CommunicatorError
from hpcnn.memory import aligned_empty
from hpcnn.tree import Node, maximal_nodes, owned_leaves


def nodes_by_rank(shards: int, size: int) -> list[list[Node]]:
    """Return the tree nodes that each rank contributes.

    Raises:
        CommunicatorError: there are more ranks than shards, so that some rank would have nothing to do.
    """
    if size > shards:
        raise CommunicatorError(
            f"{size} ranks for {shards} gradient shard{'s' * (shards != 1)}: each rank needs one shard at least. "
            f"Start {shards} rank{'s' * (shards != 1)} or fewer, or set train.shards to {size} or more "
            "(that makes it another job, with another result)."
        )
    return [maximal_nodes(shards, owned_leaves(shards, size, rank)) for rank in range(size)]


def allocate(nodes: Sequence[Node], length: int, dtype: DTypeLike, tail_length: int) -> list[Contribution]:
    """Return zeroed, cache-line-aligned buffers for `nodes`."""
    buffers = [
        Contribution(node, aligned_empty(length, dtype), aligned_empty(tail_length, np.float64)) for node in nodes
    ]
    for buffer in buffers:
        buffer.vector[...] = 0
        buffer.tail[...] = 0
    return buffers


def fold(slots: Sequence[Array], order: Sequence[tuple[int, int]], out: Array, *, block: int = 65536) -> None:
    """Sum `slots`, equally long vectors, along `order` (see `hpcnn.tree.additions`) into `out`.

    Goes block by block, so that what is added stays in the cache. Overwrites the slots.
    """
    if not order:
        out[...] = slots[0]
        return
    *inner, (last_left, last_right) = order
    for start in range(0, out.size, block):
        part = slice(start, start + block)
        for left, right in inner:
            np.add(slots[left][part], slots[right][part], out=slots[left][part])
        np.add(slots[last_left][part], slots[last_right][part], out=out[part])

"""The exchange of short vectors: every rank gets all contributions and adds them itself, in the fewest steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.comm.contributions import Slots, fold_block
from hpcnn.comm.node import Bytes, NodeMemory
from hpcnn.comm.plan import Topology
from hpcnn.comm.protocol import Contribution
from hpcnn.memory import aligned_empty
from hpcnn.phases import Phases
from hpcnn.tree import additions

Gather = Callable[[Bytes, Bytes], None]
"""``(own, everyone) -> None``: fills `everyone` with all ranks' bytes, by position."""


class SmallExchange:
    """An exchange for short vectors.

    Args:
        topology: how the ranks are dealt.
        rank: this one.
        make_gather: returns the gathering of so many bytes from each rank, by position.
        shards: leaves of the tree.
        length: entries of the vectors.
        dtype: their type.
        tail_length: entries of the tails.
    """

    def __init__(
        self,
        topology: Topology,
        rank: int,
        make_gather: Callable[[Sequence[int]], Gather],
        shards: int,
        length: int,
        dtype: DTypeLike,
        tail_length: int,
    ) -> None:
        nodes = [topology.rank_nodes(shards, each) for each in topology.order]
        layouts = [Slots(len(each), length, dtype, tail_length) for each in nodes]
        sizes = [layout.size for layout in layouts]
        position = topology.order.index(rank)
        self._own = aligned_empty(sizes[position], np.uint8)
        self._own[...] = 0
        self.contributions: Sequence[Contribution] = layouts[position].contributions(self._own, nodes[position])
        self._everyone = aligned_empty(sum(sizes), np.uint8)
        pieces = [self._everyone[end - size : end] for size, end in zip(sizes, accumulate(sizes), strict=True)]
        self._vectors = [view for layout, piece in zip(layouts, pieces, strict=True) for view in layout.vectors(piece)]
        self._tails = [view for layout, piece in zip(layouts, pieces, strict=True) for view in layout.tails(piece)]
        self._gather = make_gather(sizes)
        self.phases: Phases | None = None
        self.overlap = False
        self._order = additions(shards, [node for each in nodes for node in each])
        self.vector, self.tail = aligned_empty(length, dtype), aligned_empty(tail_length, np.float64)

    def start(self) -> None:
        """Do nothing yet."""

    def ready(self, start: int) -> None:
        """Do nothing yet."""

    def finish(self) -> bool:
        """Do the step."""
        self._gather(self._own, self._everyone)
        fold_block(self._vectors, self._order, self.vector)
        fold_block(self._tails, self._order, self.tail)
        return False

    def allreduce(self) -> None:
        """Sum all contributions of all ranks."""
        self.finish()


def gather_in_node(memory: NodeMemory, sizes: Sequence[int]) -> Gather:
    """Return the gathering of ranks that all share memory: one copy in, one wait, one copy out."""
    total, end = sum(sizes), sum(sizes[: memory.rank + 1])
    both = memory.allocate_common(2 * total)[: 2 * total]
    turn = 0

    def gather(own: Bytes, everyone: Bytes) -> None:
        # Two halves in turn: nobody writes into one before all have waited for the other, thus have read this one.
        nonlocal turn
        half = both[turn * total : (turn + 1) * total]
        half[end - own.size : end] = own
        memory.barrier()
        everyone[...] = half
        turn = 1 - turn

    return gather

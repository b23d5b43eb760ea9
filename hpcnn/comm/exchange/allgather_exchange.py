"""The exchange of short vectors: every rank gets all contributions and adds them itself, in the fewest steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Protocol

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.comm.exchange.buffers import BufferLayout, summing
from hpcnn.comm.exchange.plan import Topology
from hpcnn.comm.exchange.replicated import ReplicatedBase
from hpcnn.comm.shared_memory import Bytes, HostMemory
from hpcnn.core.activity import REDUCE, WAIT
from hpcnn.system.memory import aligned_empty


class Gather(Protocol):
    """Gathers all ranks' bytes."""

    buffers: Sequence[Bytes]
    """They take turns, each with all bytes by position, so that the last gathered stay while the next arrive."""

    def __call__(self, own: Bytes) -> int:
        """Gather, and return the number of the buffer that holds everything now. Collective."""
        ...


class AllgatherExchange(ReplicatedBase):
    """An exchange for short vectors.

    Args:
        topology: how the ranks are dealt.
        rank: this one.
        make_gather: returns what gathers that many bytes from each rank, by position.
        shards: leaves of the tree.
        length: entries of the vectors.
        dtype: their type.
        stats_length: entries of the stats.
    """

    def __init__(
        self,
        topology: Topology,
        rank: int,
        make_gather: Callable[[Sequence[int]], Gather],
        shards: int,
        length: int,
        dtype: DTypeLike,
        stats_length: int,
    ) -> None:
        subtrees = [topology.rank_subtrees(shards, each) for each in topology.order]
        layouts = [BufferLayout(len(each), length, dtype, stats_length) for each in subtrees]
        sizes = [layout.size for layout in layouts]
        position = topology.order.index(rank)
        self._own = aligned_empty(sizes[position], np.uint8)
        self._own[...] = 0
        super().__init__(
            layouts[position].contributions(self._own, subtrees[position]),
            aligned_empty(length, dtype),
            aligned_empty(stats_length, np.float64),
        )
        self._gather = make_gather(sizes)
        order = [subtree for each in subtrees for subtree in each]
        self._steps = []
        for buffer in self._gather.buffers:
            pieces = [buffer[end - size : end] for size, end in zip(sizes, accumulate(sizes), strict=True)]
            both = list(zip(layouts, pieces, strict=True))
            vectors = [view for layout, piece in both for view in layout.vectors(piece)]
            stats = [view for layout, piece in both for view in layout.stats(piece)]
            self._steps.append(
                summing(self.vector, (0, shards), vectors, order) + summing(self.stats, (0, shards), stats, order)
            )

    def allreduce(self) -> None:
        """Sum all contributions of all ranks."""
        self.activity.enter(WAIT)
        steps = self._steps[self._gather(self._own)]
        self.activity.enter(REDUCE)
        for step in steps:
            step()


class HostGather:
    """The gathering of ranks that all share memory: one copy, one wait."""

    def __init__(self, memory: HostMemory, sizes: Sequence[int]) -> None:
        total, end = sum(sizes), sum(sizes[: memory.rank + 1])
        both = memory.allocate_common(2 * total)
        self.buffers: Sequence[Bytes] = [both[:total], both[total : 2 * total]]
        self._own = [buffer[end - sizes[memory.rank] : end] for buffer in self.buffers]
        self._barrier, self._turn = memory.barrier, 0

    def __call__(self, own: Bytes) -> int:
        """Copy into one buffer, and wait for the others to do so."""
        # Nobody writes into a buffer before all have waited for the other one, and thus have read this one.
        turn = self._turn = 1 - self._turn
        self._own[turn][...] = own
        self._barrier()
        return turn

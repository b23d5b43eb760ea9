"""Base of exchanges that add up a rank's own contributions here, and let an allreduce sum those of all ranks."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.comm.exchange.buffers import BufferLayout
from hpcnn.comm.exchange.plan import Topology
from hpcnn.comm.exchange.replicated import ReplicatedBase
from hpcnn.comm.protocol import Contribution
from hpcnn.core.activity import REDUCE
from hpcnn.system.memory import aligned_empty


class AllreduceBase(ReplicatedBase):
    """Base of an `Exchange` that does everything in `finish`. The bits of its sums change with the number of ranks.

    Args:
        rank: this one.
        size: number of ranks.
        shards: gradient shards, dealt to the ranks as evenly as possible; no fewer than ranks (`check_shards`).
        length: entries of the vectors.
        dtype: their type.
        stats_length: entries of the stats.
    """

    def __init__(self, rank: int, size: int, shards: int, length: int, dtype: DTypeLike, stats_length: int) -> None:
        subtrees = Topology.of(range(size)).rank_subtrees(shards, rank)
        layout = BufferLayout(len(subtrees), length, dtype, stats_length)
        memory = aligned_empty(layout.size, np.uint8)
        memory[...] = 0
        contributions = layout.contributions(memory, subtrees)
        super().__init__(contributions, contributions[0].vector, aligned_empty(stats_length, np.float64))

    @abstractmethod
    def _add_ranks(self, own: Contribution) -> None:
        """Set `vector` and `stats` to the sums over all ranks of their own sums."""

    def allreduce(self) -> None:
        """Sum all contributions of all ranks."""
        self.activity.enter(REDUCE)
        first, *others = self.contributions
        for other in others:
            np.add(first.vector, other.vector, out=first.vector)
            np.add(first.stats, other.stats, out=first.stats)
        self._add_ranks(first)

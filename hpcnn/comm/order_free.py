"""Sums by MPI_Allreduce, in whatever order it adds: what hpcnn's exact exchange is measured against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.activity import REDUCE, Activity
from hpcnn.comm.contributions import Slots
from hpcnn.comm.mpi_links import MpiLinks
from hpcnn.comm.plan import Topology, check_shards
from hpcnn.comm.protocol import Contribution, Residuals
from hpcnn.memory import aligned_empty


class OrderFreeExchange:
    """An `Exchange` over all ranks as most toolkits do it: the bits of the sum change with the number of ranks.

    Args:
        shards: gradient shards, dealt to the ranks as evenly as possible.
        length: entries of the vectors.
        dtype: their type.
        tail_length: entries of the tails.
    """

    def __init__(self, shards: int, length: int, dtype: DTypeLike, tail_length: int) -> None:
        from mpi4py import MPI

        self._world = MPI.COMM_WORLD
        check_shards(shards, self._world.size)
        nodes = Topology.of(range(self._world.size)).rank_nodes(shards, self._world.rank)
        layout = Slots(len(nodes), length, dtype, tail_length)
        memory = aligned_empty(layout.size, np.uint8)
        memory[...] = 0
        self.contributions: Sequence[Contribution] = layout.contributions(memory, nodes)
        self.vector, self.tail = aligned_empty(length, dtype), aligned_empty(tail_length, np.float64)
        self.activity = Activity()
        self.overlap = False
        self.residuals: Residuals | None = None

    def allreduce(self) -> None:
        """Sum all contributions of all ranks."""
        self.activity.enter(REDUCE)
        first, *others = self.contributions
        for other in others:
            np.add(first.vector, other.vector, out=first.vector)
            np.add(first.tail, other.tail, out=first.tail)
        self._world.Allreduce(first.vector, self.vector)
        if self.tail.size:
            self._world.Allreduce(first.tail, self.tail)

    def start(self) -> None:
        """Do nothing yet."""

    def ready(self, start: int) -> None:
        """Do nothing yet."""

    def finish(self) -> bool:
        """Do the step."""
        self.allreduce()
        return False


def plain_links() -> MpiLinks:
    """Return links between all ranks for messages that belong to no exchange. Collective."""
    from mpi4py import MPI

    return MpiLinks(MPI.COMM_WORLD.Dup())  # MPICH complains of requests that it finds in MPI_COMM_WORLD at the end


def mpi_library() -> str:
    """Return the name and version of the MPI library."""
    from mpi4py import MPI

    return MPI.Get_library_version().splitlines()[0].strip().rstrip("\x00")

"""Sums by MPI_Allreduce, in whatever order it adds: what hpcnn's exact exchange is measured against."""

from __future__ import annotations

from numpy.typing import DTypeLike

from hpcnn.comm.exchange.allreduce_base import AllreduceBase
from hpcnn.comm.exchange.mpi_transport import MpiLinks
from hpcnn.comm.exchange.plan import check_shards
from hpcnn.comm.protocol import Contribution
from hpcnn.system.memory import aligned_empty


class AllreduceExchange(AllreduceBase):
    """An `Exchange` over all ranks as most toolkits do it: the bits of the sum change with the number of ranks.

    Args:
        shards: gradient shards, dealt to the ranks as evenly as possible.
        length: entries of the vectors.
        dtype: their type.
        stats_length: entries of the stats.
    """

    def __init__(self, shards: int, length: int, dtype: DTypeLike, stats_length: int) -> None:
        from mpi4py import MPI

        self._world = MPI.COMM_WORLD
        check_shards(shards, self._world.size)
        super().__init__(self._world.rank, self._world.size, shards, length, dtype, stats_length)
        self.vector = aligned_empty(length, dtype)

    def _add_ranks(self, own: Contribution) -> None:
        self._world.Allreduce(own.vector, self.vector)
        if self.stats.size:
            self._world.Allreduce(own.stats, self.stats)


def plain_links() -> MpiLinks:
    """Return links between all ranks for messages that belong to no exchange. Collective."""
    from mpi4py import MPI

    return MpiLinks(MPI.COMM_WORLD.Dup())  # MPICH complains of requests that it finds in MPI_COMM_WORLD at the end

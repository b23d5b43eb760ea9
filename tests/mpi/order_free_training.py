"""The digits job with gradients summed by MPI_Allreduce, in whatever order: what hpcnn does not do."""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import DTypeLike

from hpcnn import train
from hpcnn.comm import mpi
from hpcnn.comm.contributions import allocate, nodes_by_rank
from tests.mpi.launch import ROOT


class OrderFreeExchange:
    def __init__(self, world: object, shards: int, length: int, dtype: DTypeLike, tail_length: int) -> None:
        self._world = world
        nodes = nodes_by_rank(shards, world.size)[world.rank]
        self.contributions = allocate(nodes, length, dtype, tail_length)
        result = allocate([(0, shards)], length, dtype, tail_length)[0]
        self.vector, self.tail = result.vector, result.tail

    def allreduce(self) -> None:
        vector = np.sum([part.vector for part in self.contributions], axis=0)
        tail = np.sum([part.tail for part in self.contributions], axis=0)
        self._world.Allreduce(vector, self.vector)
        self._world.Allreduce(tail, self.tail)


if __name__ == "__main__":
    mpi.GatherExchange = mpi.SliceExchange = OrderFreeExchange
    sys.exit(train.main([str(ROOT / "jobs" / "digits_mlp.toml"), "--quiet", "--set", "train.epochs=2"]))

"""The digits job with gradients summed by MPI_Allreduce, in whatever order: what hpcnn does not do."""

from __future__ import annotations

import sys

from numpy.typing import DTypeLike

from hpcnn import train
from hpcnn.comm.exchange.allreduce_exchange import AllreduceExchange
from hpcnn.comm.mpi import MpiCommunicator
from tests.mpi.launch import ROOT

SETTINGS = ("train.epochs=2", "train.optimizer_sharding=false")  # sharded, it would be an exchange of another kind


def exchange(
    comm: MpiCommunicator, shards: int, length: int, dtype: DTypeLike, stats_length: int, **options: object
) -> AllreduceExchange:
    return AllreduceExchange(shards, length, dtype, stats_length)


if __name__ == "__main__":
    MpiCommunicator.exchange = exchange  # type: ignore[assignment,method-assign]
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    sys.exit(train.main([str(ROOT / "jobs" / "digits_mlp.toml"), "--quiet", *settings]))

"""Choices that change the speed alone: they are made for the machine at hand, unless the job makes them."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import numpy as np

from hpcnn.comm.collectives import agree
from hpcnn.comm.protocol import Communicator, Exchange
from hpcnn.job.schema import Train
from hpcnn.system.cores import Cores, oversubscription, read_cores, threads_of
from hpcnn.training.model import Model

SHARDING_PAYS = 4096
"""Parameters a rank from which on it is faster that each updates its own."""
OVERLAP_PAYS = 2**20
"""Bytes of gradients from which on it is worth trying to send them while the rest is computed."""
_BUCKETS, _SMALLEST_BUCKET = 8, 2**19
_TRIALS = 4
"""Steps on trial each way; the first does not count."""


def shards_optimizer(train: Train, parameters: int, comm: Communicator) -> bool:
    """Return whether each rank updates its own parameters only."""
    if train.optimizer_sharding == "auto":
        if train.compression != "none" and comm.hosts > 1:
            return False  # sums travel back in two bytes an entry, parameters do not
        return comm.size > 1 and parameters >= SHARDING_PAYS * comm.size
    return train.optimizer_sharding


def bucket_entries(train: Train, parameters: int, hosts: int) -> int:
    """Return how many gradient entries travel together while the rest is computed; 0: all at the end."""
    size = np.dtype(train.dtype).itemsize
    if train.bucket_mb != "auto":
        return int(train.bucket_mb * 2**20) // size
    if hosts == 1 or parameters * size < OVERLAP_PAYS:
        return 0
    return max(_SMALLEST_BUCKET, parameters * size // _BUCKETS) // size


def use_cores(comm: Communicator, model: Model) -> str | None:
    """Let `model` compute on this rank's share of its host's cores. Collective.

    Returns, on rank 0, what is to be said if there are more ranks than cores.
    """
    ranks = cores_of_ranks(comm)
    model.use_threads(own_threads(comm, ranks))
    return oversubscription(ranks) if comm.rank == 0 else None


def cores_of_ranks(comm: Communicator) -> list[tuple[str, Cores]]:
    """Return each rank's host and cores. Collective."""
    return comm.allgather((comm.host, read_cores()))


def own_threads(comm: Communicator, ranks: Sequence[tuple[str, Cores]]) -> int:
    """Return on how many threads this rank computes, given `cores_of_ranks`. Collective."""
    together = [cores for host, cores in ranks if host == comm.host]
    return agree(comm, lambda: threads_of(ranks[comm.rank][1], together))


class OverlapTrial:
    """Finds out in the first steps of a run whether sending beside the computation is faster than after it."""

    def __init__(self, exchange: Exchange, comm: Communicator) -> None:
        self._exchange, self._comm = exchange, comm
        self._seconds: dict[bool, list[float]] = {True: [], False: []}

    def took(self, seconds: float) -> bool:
        """Take the time of a step, and say how the next is to be done; return whether the trial is over. Collective."""
        overlap = self._exchange.overlap
        self._seconds[overlap].append(seconds)
        if len(self._seconds[overlap]) < _TRIALS:
            return False
        if overlap:
            self._exchange.overlap = False
            return False
        times = {way: median(seconds[1:]) for way, seconds in self._seconds.items()}
        gains = self._comm.allgather(times[False] - times[True])
        self._exchange.overlap = sum(gains) > 0
        return True

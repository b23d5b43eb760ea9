"""Benchmarks the exact exchange against MPI_Allreduce and the hardware limit, in turn, for vectors of many sizes."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.comm.exchange.allreduce_exchange import AllreduceExchange, plain_links
from hpcnn.comm.exchange.plan import Topology
from hpcnn.comm.exchange.transport import Links
from hpcnn.comm.protocol import Communicator, ReplicatedExchange
from hpcnn.errors import CommunicatorError, HpcnnError
from hpcnn.system.free_memory import free_memory
from hpcnn.tools.bench.limits import CopyLimit, WireLimit

Action = Callable[[], None]

MIN_REPEATS = 3
_SLICE_S = 1e-3
"""Least duration of a repetition: short calls are repeated, since the barrier before them disturbs the first."""
_MOST_CALLS = 1000
_PROBES = 2

_VECTORS_PER_RANK, _VECTORS_PER_NODE = 7, 5
"""Memory of a measurement, in vectors: contributions, what MPI sends, receives and needs itself, copies; and for each
host, what its ranks share, or get from others, and what the wire carries."""
_SHARE_OF_MEMORY = 0.8


@dataclass(frozen=True)
class SizeTimes:
    """Times for one size: seconds per call, by repetition, each of the slowest rank."""

    size: int
    """Bytes of the vector."""
    ours: list[float]
    mpi: list[float]
    limit: list[float]

    @cached_property
    def ratio(self) -> float:
        """Speedup over MPI_Allreduce, the median over repetitions."""
        return median(mpi / ours for mpi, ours in zip(self.mpi, self.ours, strict=True))

    @cached_property
    def share(self) -> float:
        """Time of the hardware limit as a fraction of ours, the median over repetitions."""
        return median(limit / ours for limit, ours in zip(self.limit, self.ours, strict=True))

    def bus_bandwidth(self, ranks: int) -> float:
        """Return the bus bandwidth: bytes per second times 2 (P - 1)/P, for P ranks, comparable to the hardware.

        The definition is that of nccl-tests (doc/PERFORMANCE.md of github.com/NVIDIA/nccl-tests).
        """
        return self.size / median(self.ours) * 2 * (ranks - 1) / ranks


@dataclass(frozen=True)
class AllreduceTimes:
    """Times of all sizes."""

    ranks_by_node: list[int]
    limit: str
    """Which hardware limit was measured."""
    sizes: list[SizeTimes]
    notes: list[str]
    """Notes for the user."""


def sizes_between(least: int, most: int, factor: int) -> list[int]:
    """Return `least` and its products with powers of `factor`, up to `most`.

    >>> sizes_between(4, 300, 4)
    [4, 16, 64, 256]
    """
    sizes = [least]
    while sizes[-1] * factor <= most:
        sizes.append(sizes[-1] * factor)
    return sizes


class AllreduceBench:
    """Measures on the ranks of `comm`, which are several. Every method is collective.

    Up to `repeats` repetitions per size take about `seconds`; there are at least `MIN_REPEATS`. `make_rival` creates
    the exchange to compare with, and `make_links` makes what the wire is measured by.
    """

    def __init__(
        self,
        comm: Communicator,
        *,
        dtype: DTypeLike,
        repeats: int,
        seconds: float,
        make_rival: Callable[[int, int, DTypeLike, int], ReplicatedExchange] = AllreduceExchange,
        make_links: Callable[[], Links] = plain_links,
    ) -> None:
        if comm.size == 1:
            raise CommunicatorError(
                "one rank has no other rank to exchange with. "
                "Start several: mpirun -n 2 python -m hpcnn.bench allreduce"
            )
        self._comm, self._dtype = comm, np.dtype(dtype)
        self._repeats, self._seconds = repeats, seconds
        self._make_rival = make_rival
        self._topology = Topology.of(comm.allgather(comm.host))
        self._links = None if len(self._topology.hosts) == 1 else make_links()

    def run(self, sizes: Sequence[int]) -> AllreduceTimes:
        """Measure vectors of these sizes in bytes, as far as memory suffices."""
        sizes, notes = self._affordable(sizes)
        times = []
        for size in sizes:
            times.append(self._measure(size))
            gc.collect()  # exchanges are in reference cycles, which would keep their memory for a while
        limit = CopyLimit.name if self._links is None else WireLimit.name
        return AllreduceTimes([len(ranks) for ranks in self._topology.hosts], limit, times, notes)

    def _affordable(self, sizes: Sequence[int]) -> tuple[list[int], list[str]]:
        """Return the sizes that fit into every host's memory, and a note if these are not all."""
        free = self._comm.allgather(free_memory())
        room, why = math.inf, ""
        for ranks in self._topology.hosts:
            held = _VECTORS_PER_RANK * len(ranks) + _VECTORS_PER_NODE
            known = [amount for rank in ranks if (amount := free[rank]) is not None]
            if known and min(known) * _SHARE_OF_MEMORY / held < room:
                room = min(known) * _SHARE_OF_MEMORY / held
                why = (
                    f"{len(ranks)} ranks of a node hold {held} vectors, and {min(known) / 2**30:.3g} GB are free there"
                )
        fitting = [size for size in sizes if size <= room]
        if not fitting:
            raise HpcnnError(f"memory is too short: {why}. Start fewer ranks a node, or give a smaller --min.")
        if len(fitting) < len(sizes):
            return fitting, [f"sizes above {fitting[-1]:,} bytes are left out for want of memory: {why}"]
        return fitting, []

    def _measure(self, size: int) -> SizeTimes:
        comm, length = self._comm, size // self._dtype.itemsize
        ours: ReplicatedExchange = comm.exchange(comm.size, length, self._dtype, 0)
        rival = self._make_rival(comm.size, length, self._dtype, 0)
        for exchange, name in ((ours, "hpcnn"), (rival, "MPI_Allreduce")):
            check_sum(comm, exchange, name)
        limit = self._limit(size)
        return SizeTimes(size, *in_turn(comm, [ours.allreduce, rival.allreduce, limit], self._repeats, self._seconds))

    def _limit(self, size: int) -> Action:
        if self._links is None:
            return CopyLimit(size, self._comm.size)
        return WireLimit(size, self._topology, self._comm.rank, self._links)


def check_sum(comm: Communicator, exchange: ReplicatedExchange, name: str) -> None:
    """Check that an exchange computes correct sums, and set its contributions to zero.

    Raises:
        CommunicatorError: on all ranks, if the sum is wrong on any.
    """
    for part in exchange.contributions:
        part.vector[...] = comm.rank + 1
    exchange.allreduce()
    right = bool((exchange.vector == comm.size * (comm.size + 1) // 2).all())
    for rank, (fine, host) in enumerate(comm.allgather((right, comm.host))):
        if not fine:
            raise CommunicatorError(
                f"rank {rank} on {host}: the sum of {exchange.vector.nbytes:,} bytes by {name} is wrong. "
                "The MPI library, the network or memory is faulty."
            )
    for part in exchange.contributions:
        part.vector[...] = 0
    exchange.allreduce()


def in_turn(comm: Communicator, actions: Sequence[Action], repeats: int, seconds: float) -> list[list[float]]:
    """Time actions in turn, A B C A B C ...; return seconds per call of the slowest rank by action and repetition."""
    one = [min(column) for column in zip(*_slowest(comm, actions, [1] * len(actions), _PROBES), strict=True)]
    calls = [min(_MOST_CALLS, math.ceil(_SLICE_S / each)) for each in one]
    round_s = sum(n * each for n, each in zip(calls, one, strict=True))
    rounds = max(MIN_REPEATS, min(repeats, int(seconds / round_s)))
    return [list(column) for column in zip(*_slowest(comm, actions, calls, rounds), strict=True)]


def _slowest(comm: Communicator, actions: Sequence[Action], calls: Sequence[int], rounds: int) -> list[list[float]]:
    """Return the slowest rank's seconds per call by round and action."""
    own = [[_seconds(comm, action, n) for action, n in zip(actions, calls, strict=True)] for _ in range(rounds)]
    slowest: list[list[float]] = np.max(comm.allgather(own), axis=0).tolist()
    return slowest


def _seconds(comm: Communicator, action: Action, calls: int) -> float:
    comm.barrier()
    begin = time.perf_counter()
    for _ in range(calls):
        action()
    return (time.perf_counter() - begin) / calls

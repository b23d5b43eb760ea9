"""Measures what messages and memory cost at the ranks there are, with enough bytes that no buffer hides the rate."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from hpcnn.comm.exchange.allreduce_exchange import plain_links
from hpcnn.comm.exchange.plan import Topology
from hpcnn.comm.exchange.probe import neighbours, short_messages
from hpcnn.comm.exchange.transport import Links
from hpcnn.comm.network import Machine, Network
from hpcnn.comm.protocol import Communicator
from hpcnn.errors import CommunicatorError
from hpcnn.system.memory import aligned_empty
from hpcnn.tools.bench.limits import WireLimit, crossing_bytes

SIZE, ADDED = 2**22, 2**24
"""Bytes of the vectors that are sent, and of those that are added: more than a core caches."""
_REPEATS, _SHORT_REPEATS = 3, 101
_MANY_TIMES = 4
"""The rate is that of so many times the bytes against once: what a token bucket lets through at first cancels out."""
_MOST_CALLS = 2**16
_ARRAYS = 3
"""That an addition reads or writes."""


@dataclass(frozen=True)
class NetworkFigures:
    """What was measured."""

    ranks_by_node: list[int]
    machine: Machine


class NetworkBench:
    """Measures on the ranks of `comm`, which are several. Every method is collective.

    Args:
        comm: all ranks.
        seconds: about how long a measurement of a rate takes; a slow network needs more.
        make_links: makes what messages are sent by.
    """

    def __init__(self, comm: Communicator, *, seconds: float, make_links: Callable[[], Links] = plain_links) -> None:
        if comm.size == 1:
            raise CommunicatorError(
                "one rank has no other rank to send to. Start several, on two nodes or more: "
                "mpirun -n 2 python -m hpcnn.bench network"
            )
        self._comm, self._seconds, self._links = comm, seconds, make_links()
        self._topology = Topology.of(comm.allgather(comm.host))

    def run(self) -> NetworkFigures:
        """Measure everything."""
        several = len(self._topology.hosts) > 1
        machine = Machine(
            self._between() if several else None,
            self._within() if self._topology.lanes > 1 else None,
            memory_byte_s(self._comm, self._seconds),
        )
        return NetworkFigures([len(ranks) for ranks in self._topology.hosts], machine)

    def _between(self) -> Network:
        """Let the first ranks of neighbouring nodes send short messages; let all ranks send for the rate."""
        latency_s, overhead_s = self._short(*neighbours(self._topology, self._comm.rank))
        limit = WireLimit(SIZE, self._topology, self._comm.rank, self._links)
        byte_s = self._call_s(limit) / crossing_bytes(SIZE, len(self._topology.hosts))
        return Network(latency_s, overhead_s, byte_s)

    def _within(self) -> Network:
        """Pair neighbouring ranks of each node."""
        ranks = self._topology.hosts[self._topology.host_of(self._comm.rank)]
        other = ranks.index(self._comm.rank) ^ 1
        pair = ranks[other : other + 1]
        latency_s, overhead_s = self._short(pair, pair)
        sent, received = np.ones((2, SIZE), np.uint8)
        transfer = self._links.transfer([(rank, sent) for rank in pair], [(rank, received) for rank in pair], 0)

        def send() -> None:
            transfer.start()
            transfer.wait(spin=True)

        return Network(latency_s, overhead_s, self._call_s(send) / SIZE)

    def _short(self, pair: Sequence[int], group: Sequence[int]) -> tuple[float, float]:
        """Return latency and overhead, the medians over all pairs."""
        self._comm.barrier()
        own = None
        if group:
            one, overhead_s = short_messages(self._links, pair, group, repeats=_SHORT_REPEATS)
            own = (median(one), overhead_s) if pair else None
        found = [each for each in self._comm.allgather(own) if each is not None]
        return median(one for one, _ in found), median(each for _, each in found)

    def _call_s(self, action: Callable[[], None]) -> float:
        return call_seconds(self._comm, action, self._seconds)


def call_seconds(comm: Communicator, action: Callable[[], None], seconds: float) -> float:
    """Return what one of many calls takes the slowest rank, without what the first are spared. Collective."""
    calls, few = 1, _slowest(comm, action, 1)
    while few * _MANY_TIMES < seconds and calls < _MOST_CALLS:
        calls *= 2
        few = _slowest(comm, action, calls)
    found = []
    for _ in range(_REPEATS):
        few, many = _slowest(comm, action, calls), _slowest(comm, action, _MANY_TIMES * calls)
        further = (many - few) / ((_MANY_TIMES - 1) * calls)
        found.append(
            further if further > 0 else many / (_MANY_TIMES * calls)
        )  # disturbed: too slow rather than nothing
    return median(found)


def _slowest(comm: Communicator, action: Callable[[], None], calls: int) -> float:
    comm.barrier()
    begin = time.perf_counter()
    for _ in range(calls):
        action()
    everyone: list[float] = comm.allgather(time.perf_counter() - begin)
    return max(everyone)


def memory_byte_s(comm: Communicator, seconds: float) -> float:
    """Return the time of a byte that a node reads or writes, while all its ranks add vectors. Collective."""
    one, other, total = (aligned_empty(ADDED // 4, np.float32) for _ in range(_ARRAYS))
    one[...] = other[...] = total[...] = 1

    def add() -> None:
        np.add(one, other, out=total)

    hosts = comm.allgather(comm.host)
    most = max(map(hosts.count, set(hosts)))
    return call_seconds(comm, add, seconds) / (_ARRAYS * ADDED * most)

"""How fast ranks reach each other: messages there and back, and sums over all of them, in about two seconds."""

from __future__ import annotations

import time
from statistics import median

import numpy as np

from hpcnn.comm.exchange.allreduce_exchange import plain_links
from hpcnn.comm.exchange.plan import Topology
from hpcnn.comm.exchange.transport import Links
from hpcnn.comm.protocol import Communicator
from hpcnn.system.memory import aligned_empty
from hpcnn.tools.bench.allreduce import AllreduceBench
from hpcnn.tools.doctor.evidence import Ping, Pings, Sum

PING_BYTES = (8, 2**10, 2**16, 2**20, 2**22)
SUM_BYTES = [2**10, 2**16, 2**20, 2**22]
_PING_S, _SUM_S = 0.1, 0.2
"""About so long for each size."""
_LEAST, _MOST = 5, 1000
_TAG = 1


def measure_pings(comm: Communicator) -> list[Pings]:
    """Return the times between rank 0 and the next rank of its node, and the first of the next node. Collective."""
    hosts = comm.allgather(comm.host)
    links = plain_links()
    return [
        Pings((hosts[0], hosts[peer]), tuple(_ping(comm, links, peer, size) for size in PING_BYTES))
        for peer in _peers(Topology.of(hosts))
    ]


def _peers(topology: Topology) -> list[int]:
    """Return with whom rank 0 exchanges messages: one neighbour within its node, and one on another.

    >>> _peers(Topology.of(["a", "a", "b"])), _peers(Topology.of(["a", "b"]))
    ([1, 2], [1])
    """
    own, *others = topology.hosts
    return [*own[1:2], *(ranks[0] for ranks in others[:1])]


def _ping(comm: Communicator, links: Links, peer: int, size: int) -> Ping:
    """Return the time of one way, the shortest of many; other ranks than the two only wait."""
    other = {0: peer, peer: 0}.get(comm.rank)
    there, back = aligned_empty(size, np.uint8), aligned_empty(size, np.uint8)
    there[...] = back[...] = 1
    times: list[float] = []
    if other is not None:
        send, receive = links.transfer([(other, there)], [], _TAG), links.transfer([], [(other, back)], _TAG)
        turn = (send, receive) if comm.rank == 0 else (receive, send)
        rounds = _LEAST
        while len(times) < _LEAST + rounds:
            begin = time.perf_counter()
            for transfer in turn:
                transfer.start()
                transfer.wait(spin=True)
            times.append((time.perf_counter() - begin) / 2)
            if len(times) == _LEAST:
                rounds = _agreed_rounds(comm.rank, links, other, median(times))
        send.free()
        receive.free()
    comm.barrier(spin=False)
    return comm.broadcast(Ping(size, min(times)) if comm.rank == 0 else None)  # type: ignore[no-any-return]


def _agreed_rounds(rank: int, links: Links, other: int, one_way_s: float) -> int:
    """Return how often rank 0 wants to send the message, which it tells the other."""
    wanted = np.array([max(_LEAST, min(_MOST, int(_PING_S / (2 * one_way_s))))])
    message = [(other, wanted)]
    transfer = links.transfer(message, [], _TAG) if rank == 0 else links.transfer([], message, _TAG)
    transfer.start()
    transfer.wait(spin=True)
    transfer.free()
    return int(wanted[0])


def measure_sums(comm: Communicator) -> list[Sum]:
    """Return the times of sums over all ranks. Collective."""
    bench = AllreduceBench(comm, dtype=np.float32, repeats=10, seconds=_SUM_S)
    return [
        Sum(one.size, median(one.ours), median(one.mpi), one.bus_bandwidth(comm.size))
        for one in bench.run(SUM_BYTES).sizes
    ]

"""Hardware limits of a sum over ranks, measured as times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpcnn.comm.exchange.plan import Topology
from hpcnn.comm.exchange.transport import Links, Message
from hpcnn.comm.protocol import Array
from hpcnn.system.memory import aligned_empty

_TAG = 0
MESSAGE = 2**18
"""Bytes of a message at most: some MPIs send longer ones by turns, one way and then the other."""


class CopyLimit:
    """The limit of the memory: all ranks of a host copy at once, and move as many bytes as their exact sum must.

    To sum vectors of n bytes, each of P ranks reads its slice of n/P bytes in all P vectors and writes one slice of the
    result: n + n/P bytes. A copy of m bytes by `numpy.copyto` reads m and writes m, so that m is half of that.

    What is short stays in the cache of the core that copies it, while a sum must fetch it from other cores: there the
    limit is out of reach, and says only how much is latency.
    """

    name = "memory copy"

    def __init__(self, size: int, ranks: int) -> None:
        copied = copied_bytes(size, ranks)
        self._source, self._target = _pages(copied), _pages(copied)

    def __call__(self) -> None:
        """Copy once."""
        np.copyto(self._target, self._source)


def copied_bytes(size: int, ranks: int) -> int:
    """Return how many bytes each rank copies to move as many as the sum of vectors of `size` bytes does.

    >>> copied_bytes(4096, 2)
    3072
    """
    return (size + -(-size // ranks)) // 2


class WireLimit:
    """The limit of the network: all hosts send at once, and receive at once, as many bytes as any sum must.

    To sum vectors of n bytes, each of N hosts must send 2 n (N - 1)/N bytes and receive as many (Patarasuk and Yuan,
    "Bandwidth optimal all-reduce algorithms for clusters of workstations", 2009). Here it sends them to the next host,
    by its ranks in even parts: two hosts send to each other.
    """

    name = "wire"

    def __init__(self, size: int, topology: Topology, rank: int, links: Links) -> None:
        sends, receives = wire_messages(topology, rank, crossing_bytes(size, len(topology.hosts)))
        self._transfer = links.transfer(_arrays(sends), _arrays(receives), _TAG)

    def __call__(self) -> None:
        """Send and receive once."""
        self._transfer.start()
        self._transfer.wait(spin=True)


def crossing_bytes(size: int, hosts: int) -> int:
    """Return how many bytes a host must send, and receive, for the sum of vectors of `size` bytes.

    >>> crossing_bytes(4096, 2), crossing_bytes(4096, 4)
    (4096, 6144)
    """
    return -(-2 * size * (hosts - 1) // hosts)


def wire_messages(topology: Topology, rank: int, crossing: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return ``(rank, bytes)`` of what `rank` sends to the next host, and of what it receives from the last one.

    Each host's `crossing` bytes are shared out evenly among its ranks.
    """
    hosts, own = topology.hosts, topology.host_of(rank)
    ranks, following, previous = hosts[own], hosts[(own + 1) % len(hosts)], hosts[own - 1]
    local = ranks.index(rank)
    sends = [(following[local % len(following)], -(-crossing // len(ranks)))]
    receives = [
        (peer, -(-crossing // len(previous))) for index, peer in enumerate(previous) if index % len(ranks) == local
    ]
    return sends, receives


def _arrays(messages: Sequence[tuple[int, int]]) -> list[Message]:
    whole = [(rank, _pages(size)) for rank, size in messages]
    return [(rank, array[start : start + MESSAGE]) for rank, array in whole for start in range(0, array.size, MESSAGE)]


def _pages(size: int) -> Array:
    """Return memory that is there: pages never written to are all the same one, which the cache holds."""
    array = aligned_empty(size, np.uint8)
    array[...] = 1
    return array

"""What messages between hosts cost, measured at the start: a few milliseconds."""

from __future__ import annotations

import operator
import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

from hpcnn.comm.exchange.choice import (
    CHOICE,
    DIRECT,
    GATHER,
    Workload,
    check_choice,
    contributed_bytes,
    fastest,
)
from hpcnn.comm.exchange.transport import Links, Place
from hpcnn.comm.network import NETWORK, Network, read_network
from hpcnn.errors import CommunicatorError

Allreduce = Callable[[Any, Callable[[Any, Any], Any]], Any]
"""See `Communicator.allreduce`."""

SHORT_BYTES, _LONG_BYTES = 8, 2**18
MANY = 16
"""Messages at once, by which the overhead of one is measured."""
_MOST_PAIRS = 32
"""Pairs of hosts that measure, spread over all of them."""

SMALL_BYTES = 64 * 1024
"""Up to this size of all contributions together, every rank of one host reads and adds everything fastest itself."""

_PROBE_TAG = 0


def asked_for(broadcast: Callable[[Any], Any], rank: int) -> tuple[str, Network | None]:
    """Return the algorithm and the network that rank 0's environment names, if any. Collective.

    Raises:
        CommunicatorError: on all ranks alike, if it names something else.
    """
    found = broadcast(_of_environment() if rank == 0 else None)
    if isinstance(found, str):
        raise CommunicatorError(found)
    algorithm, network = found
    return algorithm, network


def _of_environment() -> tuple[str, Network | None] | str:
    """Return what the environment names, or what is wrong with it."""
    network = os.environ.get(NETWORK, "")
    try:
        return check_choice(os.environ.get(CHOICE, "")), read_network(network) if network else None
    except CommunicatorError as error:
        return str(error)


def measure(place: Place, allreduce: Allreduce) -> Network:
    """Return the network between hosts, the same on all ranks: the first ranks of neighbouring hosts try it in pairs.

    Of many hosts some pairs do. Collective among all ranks. What is measured includes what this program does for each
    message.
    """
    hosts, host = place.topology.hosts, place.host
    partner, pairs = host ^ 1, len(hosts) // 2
    measuring = {pairs * number // _MOST_PAIRS for number in range(_MOST_PAIRS)}
    own = []
    if place.rank == hosts[host][0] and partner < len(hosts) and host // 2 in measuring:
        own.append(_measure_pair(place, hosts[partner][0]))
    found = allreduce(own, operator.add)
    return Network(*(median(column) for column in zip(*found, strict=True)))


def _measure_pair(place: Place, partner: int) -> tuple[float, float, float]:
    links = place.links
    short = min(pair_seconds(links, partner, SHORT_BYTES, 1, repeats=12))
    many = min(pair_seconds(links, partner, SHORT_BYTES, MANY, repeats=6))
    long = min(pair_seconds(links, partner, _LONG_BYTES, 1, repeats=3))
    return short, max(0.0, many - short) / (MANY - 1), max(0.0, long - short) / (_LONG_BYTES - SHORT_BYTES)


def pair_seconds(links: Links, partner: int, size: int, count: int, *, repeats: int) -> list[float]:
    """Return the times in which two ranks send each other `count` messages of `size` bytes at once."""
    sent, received = np.zeros((2, count, size), np.uint8)
    transfer = links.transfer([(partner, row) for row in sent], [(partner, row) for row in received], _PROBE_TAG)
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        transfer.start()
        transfer.wait(spin=True)
        times.append(time.perf_counter() - begin)
    transfer.free()
    return times


class Chooser:
    """Chooses the algorithm of each exchange, on all ranks alike; measures the network when it first matters.

    Args:
        broadcast: returns rank 0's small object.
        allreduce: merges every rank's small object.
    """

    def __init__(self, broadcast: Callable[[Any], Any], allreduce: Allreduce) -> None:
        self._broadcast, self._allreduce = broadcast, allreduce
        self._asked: tuple[str, Network | None] | None = None
        self._measured: dict[int, Network] = {}
        """By the number of hosts: ranks that share no memory count as hosts."""

    def choose(self, place: Place, work: Workload, *, gather: bool) -> str:
        """Return the name of an algorithm; with `gather`, that may be `GATHER`. Collective.

        Raises:
            CommunicatorError: on all ranks alike, if the environment asks for something else than there is.
        """
        hosts = len(work.topology.hosts)
        if hosts == 1:
            return GATHER if gather and contributed_bytes(work) <= SMALL_BYTES else DIRECT
        if self._asked is None:
            self._asked = asked_for(self._broadcast, place.rank)
        algorithm, network = self._asked
        if algorithm:
            return algorithm
        if network is None and hosts not in self._measured:
            self._measured[hosts] = measure(place, self._allreduce)
        return fastest(work, network or self._measured[hosts], gather=gather)

    def network(self, hosts: int) -> Network | None:
        """Return the network that choices among so many hosts go by; None if none was made by one."""
        asked = self._asked[1] if self._asked else None
        return asked or self._measured.get(hosts)

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
    NETWORK,
    Network,
    Workload,
    check_choice,
    contributed_bytes,
    fastest,
)
from hpcnn.comm.exchange.transport import Place

Allreduce = Callable[[Any, Callable[[Any, Any], Any]], Any]
"""See `Communicator.allreduce`."""

_SHORT_BYTES, _LONG_BYTES = 8, 2**18
_MANY = 16
_MOST_PAIRS = 32
"""Pairs of hosts that measure, spread over all of them."""

SMALL_BYTES = 64 * 1024
"""Up to this size of all contributions together, every rank of one host reads and adds everything fastest itself."""

_PROBE_TAG = 0


def asked_for(broadcast: Callable[[Any], Any]) -> tuple[str, Network | None]:
    """Return the algorithm and the network that rank 0's environment names, if any. Collective.

    Raises:
        CommunicatorError: on all ranks alike, if it names something else.
    """
    choice, network = broadcast((os.environ.get(CHOICE, ""), os.environ.get(NETWORK, "")))
    return check_choice(choice), Network.parse(network) if network else None


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
    short = _seconds(place, partner, _SHORT_BYTES, 1, repeats=12)
    many = _seconds(place, partner, _SHORT_BYTES, _MANY, repeats=6)
    long = _seconds(place, partner, _LONG_BYTES, 1, repeats=3)
    return short, max(0.0, many - short) / (_MANY - 1), max(0.0, long - short) / (_LONG_BYTES - _SHORT_BYTES)


def _seconds(place: Place, partner: int, size: int, count: int, *, repeats: int) -> float:
    """Return the shortest time in which two ranks send each other `count` messages of `size` bytes at once."""
    sent, received = np.zeros((2, count, size), np.uint8)
    transfer = place.links.transfer([(partner, row) for row in sent], [(partner, row) for row in received], _PROBE_TAG)
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        transfer.start()
        transfer.wait(spin=True)
        times.append(time.perf_counter() - begin)
    transfer.free()
    return min(times)


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
            self._asked = asked_for(self._broadcast)
        algorithm, network = self._asked
        if algorithm:
            return algorithm
        if network is None and hosts not in self._measured:
            self._measured[hosts] = measure(place, self._allreduce)
        return fastest(work, network or self._measured[hosts], gather=gather)

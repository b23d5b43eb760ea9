"""What messages between hosts cost, measured at the start: a few milliseconds."""

from __future__ import annotations

import operator
import os
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np

from hpcnn.comm.exchange.choice import CHOICE, Workload, check_choice, fastest, fastest_on_host
from hpcnn.comm.exchange.plan import Topology
from hpcnn.comm.exchange.transport import Links, Place
from hpcnn.comm.network import NETWORK, Network, read_network
from hpcnn.errors import CommunicatorError

Allreduce = Callable[[Any, Callable[[Any, Any], Any]], Any]
"""See `Communicator.allreduce`."""

SHORT_BYTES = 8
_LEAST_BYTES, _MOST_BYTES = 2**14, 2**18
"""Of a message by which the rate is measured."""
MANY = 16
"""Messages at once, by which the overhead of one is measured; and hosts of a group, where each sends to all others."""
_MOST_GROUPS = 4
"""Groups that measure, spread over all hosts."""

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


def measure(place: Place, allreduce: Allreduce, long_bytes: int = _MOST_BYTES) -> Network:
    """Return the network between hosts, the same on all ranks: the first ranks of neighbouring hosts try it.

    Of many hosts some do. Collective among all ranks. What this program does for each message is measured with it. The
    rate is that of messages of `long_bytes`: MPI sends short ones and long ones in different ways.
    """
    pair, group = neighbours(place.topology, place.rank)
    own = []
    if group:
        one, overhead_s = short_messages(place.links, pair, group, repeats=24)
        long_s = min(exchange_seconds(place.links, pair, long_bytes, repeats=12))
        if pair:
            own.append((median(one), overhead_s, max(0.0, long_s - min(one)) / (long_bytes - SHORT_BYTES)))
    found = allreduce(own, operator.add)
    return Network(*(median(column) for column in zip(*found, strict=True)))


def longest_message(work: Workload) -> int:
    """Return about how long the longest messages of an exchange are, or how long ones tell as much of the rate."""
    longest = work.length * work.item_bytes // (2 * work.topology.lanes * work.buckets)
    return min(_MOST_BYTES, max(_LEAST_BYTES, 1 << max(0, longest.bit_length() - 1)))


def neighbours(topology: Topology, rank: int) -> tuple[list[int], list[int]]:
    """Return with whom a rank measures: one other rank, or nobody in a group of an odd number; and all of its group.

    These are the first ranks of neighbouring hosts. Other ranks, and groups that need not measure, have nobody.

    >>> neighbours(Topology.of("aabbc"), 2)
    ([0], [4, 0])
    >>> neighbours(Topology.of("aabbc"), 4)
    ([], [0, 2])
    """
    hosts, host = topology.hosts, topology.host_of(rank)
    groups = max(1, len(hosts) // MANY)
    measuring = {groups * number // _MOST_GROUPS for number in range(_MOST_GROUPS)}
    if rank != hosts[host][0] or host // MANY not in measuring:
        return [], []
    start = host // MANY * MANY
    pair = hosts[host ^ 1 : (host ^ 1) + 1]
    others = [*hosts[host + 1 : start + MANY], *hosts[start:host]]
    return [ranks[0] for ranks in pair], [ranks[0] for ranks in others]


def short_messages(
    links: Links, pair: Sequence[int], group: Sequence[int], *, repeats: int
) -> tuple[list[float], float]:
    """Return the times of a short message to the other of a pair, and the overhead of each further one to a group.

    The median of the times is the latency: as a rule a round also waits for a rank that is late. The overhead is that
    of the messages alone, of the shortest times. Messages to several ranks cost more than as many to one, which may
    travel as one packet.
    """
    many = [*group] * max(1, MANY // len(group))
    one_s = exchange_seconds(links, pair, SHORT_BYTES, repeats=repeats)
    many_s = exchange_seconds(links, many, SHORT_BYTES, repeats=repeats)
    return one_s, max(0.0, min(many_s) - min(one_s)) / (len(many) - 1)


def exchange_seconds(links: Links, partners: Sequence[int], size: int, *, repeats: int) -> list[float]:
    """Return the times in which ranks send each other messages of `size` bytes at once, one for each of `partners`.

    Each is half of that of two in turn: a rank waits longer for the first if others came later, and that much shorter
    for the second.
    """
    sent, received = np.zeros((2, len(partners), size), np.uint8)
    sends, receives = list(zip(partners, sent, strict=True)), list(zip(partners, received, strict=True))
    transfer = links.transfer(sends, receives, _PROBE_TAG)
    ends = [time.perf_counter()]
    for _ in range(repeats + 1):
        transfer.start()
        transfer.wait(spin=True)
        ends.append(time.perf_counter())
    transfer.free()
    return [(end - begin) / 2 for begin, end in zip(ends, ends[2:], strict=False)]


class Chooser:
    """Chooses the algorithm of each exchange, on all ranks alike; measures the network when it first matters.

    Args:
        broadcast: returns rank 0's small object.
        allreduce: merges every rank's small object.
    """

    def __init__(self, broadcast: Callable[[Any], Any], allreduce: Allreduce) -> None:
        self._broadcast, self._allreduce = broadcast, allreduce
        self._asked: tuple[str, Network | None] | None = None
        self._measured: dict[tuple[int, int], Network] = {}
        """By the number of hosts, where ranks that share no memory count as hosts, and by the length of messages."""

    def choose(self, place: Place, work: Workload, *, gather: bool) -> str:
        """Return the name of an algorithm; with `gather`, that may be `GATHER`. Collective.

        Raises:
            CommunicatorError: on all ranks alike, if the environment asks for something else than there is.
        """
        hosts = len(work.topology.hosts)
        if hosts == 1:
            return fastest_on_host(work, gather=gather)
        if self._asked is None:
            self._asked = asked_for(self._broadcast, place.rank)
        algorithm, network = self._asked
        if algorithm:
            return algorithm
        if network is None:
            key = hosts, longest_message(work)
            if key not in self._measured:
                self._measured[key] = measure(place, self._allreduce, key[1])
            network = self._measured[key]
        return fastest(work, network, gather=gather)

    def network(self, hosts: int) -> Network | None:
        """Return the network that choices among so many hosts go by, that of the longest messages; None without any."""
        asked = self._asked[1] if self._asked else None
        sizes = [size for number, size in self._measured if number == hosts]
        return asked or (self._measured[hosts, max(sizes)] if sizes else None)

"""Which algorithm sums a vector fastest between hosts, by a latency and a bandwidth: a model, without communication.

The time of a step's exchange is that of LogGP (Alexandrov et al. 1995): a latency for each round, and beside it an
overhead for each further message of a rank, or a gap for each byte that leaves a host, whichever is more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.comm.exchange.formats import WIRE_BYTES
from hpcnn.comm.exchange.halving import Round, halving_rounds
from hpcnn.comm.exchange.plan import Topology
from hpcnn.comm.network import Network
from hpcnn.comm.protocol import ExchangeOptions
from hpcnn.errors import CommunicatorError

DIRECT, HALVING, GATHER = "direct", "halving", "gather"
ALGORITHMS = (DIRECT, HALVING)
"""Those that serve any exchange."""

CHOICE = "HPCNN_EXCHANGE"
"""Environment variable: one of `ALGORITHMS`, in place of the fastest."""

ADDITION_S = 2.5e-7
"""To begin one addition or copy."""
CACHED_BYTE_S, _BYTE_S = 1e-11, 5e-11
"""To read or write a byte that lies in the cache, or in memory."""
ROUNDING_S, CONVERSION_S = 1.1e-9, 4.5e-10
"""To round an entry to two bytes and keep what that lost, and to turn one into two bytes or back."""
CACHE_BYTES = 2**20
SMALL_BYTES = 64 * 1024
"""Up to this size of all contributions together, every rank of one host reads and adds everything fastest itself."""


def check_choice(text: str) -> str:
    """Return the algorithm that a text asks for; empty: the fastest.

    Raises:
        CommunicatorError: there is none of that name.
    """
    if text and text not in ALGORITHMS:
        raise CommunicatorError(
            f"{CHOICE} is {text!r}, but must be {' or '.join(ALGORITHMS)}. Unset it to let hpcnn choose the fastest."
        )
    return text


@dataclass(frozen=True)
class Workload:
    """What is to be summed in a step."""

    topology: Topology
    shards: int
    length: int
    """Entries of the vector."""
    item_bytes: int
    stats_length: int
    buckets: int = 1
    """How many parts of it travel on their own."""
    memory_bytes: int = 0
    """Of an entry in memory, where it is rounded on its way; 0: it travels as it is."""

    @classmethod
    def of(
        cls,
        topology: Topology,
        shards: int,
        length: int,
        dtype: DTypeLike,
        stats_length: int,
        options: ExchangeOptions,
    ) -> Workload:
        """Return that of an exchange which is asked for so."""
        memory_bytes = np.dtype(dtype).itemsize
        bucket = options.get("bucket") or length
        buckets = max(1, round(length / max(1, bucket)))
        if options.get("compression"):
            return cls(topology, shards, length, WIRE_BYTES, stats_length, buckets, memory_bytes)
        return cls(topology, shards, length, memory_bytes, stats_length, buckets)

    @property
    def entry_bytes(self) -> int:
        """Of an entry in memory."""
        return self.memory_bytes or self.item_bytes


@dataclass(frozen=True)
class Phase:
    """Rounds in which messages of one kind travel."""

    rounds: int
    """Messages that must wait for each other."""
    messages: int
    """Those that a rank sends."""
    sent_bytes: float
    """Those that leave a host."""

    def seconds(self, network: Network) -> float:
        """Return how long it takes. While the bytes of a message leave, its rank prepares the next one."""
        further_s = max(0, self.messages - self.rounds) * network.overhead_s
        return self.rounds * network.latency_s + max(further_s, self.sent_bytes * network.byte_s)


@dataclass(frozen=True)
class Traffic:
    """What one step's exchange sends between hosts, and what a rank computes for it."""

    phases: Sequence[Phase]
    additions: int
    """And copies, of a rank."""
    moved_bytes: float
    """That a rank reads or writes to add and to copy: what MPI itself does is the network's."""
    converted_s: float = 0.0
    """In which a rank rounds and converts entries."""

    @property
    def rounds(self) -> int:
        """Messages that must wait for each other."""
        return sum(each.rounds for each in self.phases)

    @property
    def messages(self) -> int:
        """Those that a rank sends."""
        return sum(each.messages for each in self.phases)

    @property
    def sent_bytes(self) -> float:
        """Those that leave a host."""
        return sum(each.sent_bytes for each in self.phases)

    def local_s(self, memory_byte_s: float = _BYTE_S) -> float:
        """Return what a rank computes, in seconds, by what a byte takes that it reads or writes in memory."""
        byte_s = CACHED_BYTE_S if self.moved_bytes < CACHE_BYTES else memory_byte_s
        return self.additions * ADDITION_S + self.moved_bytes * byte_s + self.converted_s

    def network_s(self, network: Network) -> float:
        """Return how long the messages take."""
        return sum(each.seconds(network) for each in self.phases)

    def seconds(self, network: Network) -> float:
        """Return how long it takes."""
        return self.network_s(network) + self.local_s()


def direct_traffic(work: Workload) -> Traffic:
    """Return the traffic of `DirectRoute`: sums and stats, results, and flags, each to every other host."""
    hosts, lanes = len(work.topology.hosts), work.topology.lanes
    sums = max(len(work.topology.host_subtrees(work.shards, host)) for host in _some_hosts(hosts))
    slots = max(_slots_of_host(work, host) for host in _some_hosts(hosts))
    own, relayed = work.length / hosts, work.length * (hosts - 1) / hosts
    here = slots + sums if slots > sums else 0  # what is a sum already is sent where it lies
    moved = relayed * here + own * (slots + (hosts - 1) * sums + 1)
    converted_s = 0.0
    if work.memory_bytes:
        moved += 2 * (relayed + own) * sums + 2 * own  # residuals
        converted_s = ROUNDING_S * (work.length * sums + own)
        converted_s += CONVERSION_S * (own * (hosts - 1) * sums + own + relayed)  # what comes, and what is returned
    others, part_bytes = hosts - 1, work.length * work.item_bytes * (hosts - 1) / hosts
    return Traffic(
        [
            Phase(work.buckets, others * sums * work.buckets, sums * part_bytes),
            Phase(0, others * sums, others * lanes * 8 * work.stats_length * sums),  # stats, beside the first bucket
            Phase(1, others * work.buckets, part_bytes),  # a bucket is returned while the next one is summed
            Phase(1, others, others * lanes),
        ],
        hosts * sums * (work.buckets + 1),
        moved * work.entry_bytes / lanes,
        converted_s / lanes,
    )


def halving_traffic(work: Workload) -> Traffic:
    """Return the traffic of `HalvingRoute`."""
    of_hosts = [_halving_traffic(work, host) for host in _some_hosts(len(work.topology.hosts))]
    most = Phase(
        max(each.rounds for each in of_hosts),
        max(each.messages for each in of_hosts),
        max(each.sent_bytes for each in of_hosts),
    )
    return Traffic(
        [most],
        max(each.additions for each in of_hosts),
        max(each.moved_bytes for each in of_hosts),
        max(each.converted_s for each in of_hosts),
    )


def _halving_traffic(work: Workload, host: int) -> Traffic:
    topology, lanes = work.topology, work.topology.lanes
    plan = halving_rounds(len(topology.hosts), host, (0, work.length), 1)
    sent = 0
    for each in plan:
        sums = len(topology.hosts_subtrees(work.shards, each.side))
        entries = sum(share.stop - share.start for share in each.sends)
        stats = sum(share.stats for share in each.sends) * lanes
        sent += sums * (entries * work.item_bytes + stats * 8 * work.stats_length)
        returned = sum(share.stop - share.start for share in each.receives)
        sent += returned * work.item_bytes + lanes * len(each.receives)
    lanes_of_rank = -(-lanes // len(topology.hosts[host]))
    messages = sum(len(each.sends) + len(each.receives) for each in plan) * lanes_of_rank
    # In each round two sums of each bucket, which begin like two additions, and a sum and a copy of the stats; what is
    # returned is packed and unpacked, with the flag.
    additions = len(plan) * (4 * work.buckets + 6)
    moved, converted = _halving_moved(work, host, plan)
    converted_s = (converted * CONVERSION_S + 2 * work.length * ROUNDING_S) / lanes if work.memory_bytes else 0.0
    moved_bytes = moved * work.entry_bytes / lanes
    phase = Phase(2 * len(plan) * work.buckets, messages * work.buckets, sent)
    return Traffic([phase], additions, moved_bytes, converted_s)


def _halving_moved(work: Workload, host: int, plan: Sequence[Round]) -> tuple[float, float]:
    """Return how many entries the ranks of a host read or write, and how many they send and receive.

    What is sent for the first time is copied, or added up into the message; the rest is added up in place. One message
    of a round is added where it arrived. Of what is returned, the bucket with the flags is packed and unpacked.
    """
    topology, shards = work.topology, work.shards
    held, moved, converted = _slots_of_host(work, host), 0.0, 0.0
    for each in plan:
        side, other = (len(topology.hosts_subtrees(shards, group)) for group in (each.side, each.other))
        sent, received = (sum(share.stop - share.start for share in shares) for shares in (each.sends, each.receives))
        moved += (held + side) * (each.before[1] - each.before[0]) if held > side else 2 * side * sent
        moved += 2 * other * received if len(each.receives) > 1 else 0
        moved += 2 * (sent + received) / work.buckets
        converted += side * sent + other * received + sent + received
        held = side + other
    kept = plan[-1].after if plan else (0, work.length)
    return moved + (held + 1) * (kept[1] - kept[0]), converted


def gather_traffic(work: Workload) -> Traffic:
    """Return the traffic of `AllgatherExchange`: every rank receives all contributions, and adds them."""
    ranks, on_host, sum_bytes = len(work.topology.order), work.topology.lanes, contributed_bytes(work)
    rounds = (ranks - 1).bit_length()
    sent = on_host * sum_bytes * (ranks - on_host) / ranks
    return Traffic([Phase(rounds, rounds, sent)], 2 * _slots(work), sum_bytes)


def contributed_bytes(work: Workload) -> int:
    """Return the bytes of all contributions of all ranks together, nearly."""
    return _slots(work) * (work.length * work.item_bytes + 8 * work.stats_length)


def _slots_of_host(work: Workload, host: int) -> int:
    """Return how many sums the ranks of a host contribute."""
    return sum(len(work.topology.rank_subtrees(work.shards, rank)) for rank in work.topology.hosts[host])


def _slots(work: Workload) -> int:
    topology = work.topology
    ranks = len(topology.order)
    some = (topology.order[place] for place in {0, ranks // 3, ranks // 2, ranks - 1})
    return ranks * max(len(topology.rank_subtrees(work.shards, rank)) for rank in some)


TRAFFIC = {DIRECT: direct_traffic, HALVING: halving_traffic, GATHER: gather_traffic}


def fastest_on_host(work: Workload, *, gather: bool) -> str:
    """Return the name of the fastest algorithm for ranks of one host; with `gather`, that may be `GATHER`."""
    return GATHER if gather and contributed_bytes(work) <= SMALL_BYTES else DIRECT


def fastest(work: Workload, network: Network, *, gather: bool) -> str:
    """Return the name of the fastest algorithm between hosts; with `gather`, that may be `GATHER`."""
    names = [*ALGORITHMS, GATHER] if gather else ALGORITHMS
    return min(names, key=lambda name: TRAFFIC[name](work).seconds(network))


def _some_hosts(hosts: int) -> set[int]:
    """Return a few hosts that stand for all: the first and the last have the fewest sums."""
    return {0, hosts // 3, hosts // 2, hosts - 1}

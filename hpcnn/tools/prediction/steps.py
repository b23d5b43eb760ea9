"""The time of a step on any number of nodes: computation, sums in memory, and the messages of the real exchange."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hpcnn.comm.exchange.choice import (
    ADDITION_S,
    CACHE_BYTES,
    CACHED_BYTE_S,
    DIRECT,
    GATHER,
    HALVING,
    TRAFFIC,
    Workload,
    contributed_bytes,
    fastest,
)
from hpcnn.comm.exchange.network import Machine, Network
from hpcnn.comm.exchange.plan import Topology
from hpcnn.comm.exchange.probe import SMALL_BYTES
from hpcnn.tools.prediction.compute import Compute

PAYS = 0.5
"""The least efficiency of nodes that pay."""
COMPUTE, UPDATE, SUMS, NETWORK = "compute", "update", "sums", "network"
_MEETING_S, _MEETINGS = 1e-6, 3
"""Of a host's ranks, per doubling of their number, where it is not known; and how often they meet in a step."""
_TOUCHED = 3
"""How often halving reads or writes a byte that it sends, and one that comes: packed, added, unpacked."""


@dataclass(frozen=True)
class Cluster:
    """The nodes that a job is to run on."""

    machine: Machine
    """With a network between nodes, if there are several, and the memory bandwidth."""
    tasks: int
    """Ranks of a node."""
    hidden: float = 0.0
    """The share of the messages' time that passes beside the backward pass."""


@dataclass(frozen=True)
class Model:
    """What of a job decides the time of a step."""

    compute: Compute
    length: int
    """Gradient entries."""
    item_bytes: int
    """Of an entry that travels."""
    stats_length: int
    shards: int
    """At least so many; more where there are more ranks."""
    gathers: bool
    """Whether short vectors may be gathered: not by every kind of exchange."""
    shares_update: Callable[[int], bool]
    """Whether so many ranks update a part each."""
    memory: Callable[[int, int], int]
    """Bytes of a rank, by ranks and batch."""
    batch_sums: Sequence[int] = ()
    """Entries of the float64 sums for which all ranks stop within a step, as for batch normalisation."""


@dataclass(frozen=True)
class Step:
    """A step on some nodes."""

    nodes: int
    ranks: int
    batch: int
    parts: dict[str, float]
    """Seconds."""
    algorithm: str
    sent_bytes: float
    """Of a rank, to other nodes."""
    messages: int
    """Of a rank, to other nodes."""
    memory_bytes: int
    """Of a rank."""

    @property
    def seconds(self) -> float:
        """Return what it takes."""
        return sum(self.parts.values())


def predict_step(model: Model, cluster: Cluster, nodes: int, batch: int) -> Step:
    """Return a step of `batch` samples on so many nodes, each rank with an even part of it."""
    tasks = cluster.tasks
    ranks = nodes * tasks
    topology = Topology(tuple(tuple(range(node * tasks, (node + 1) * tasks)) for node in range(nodes)))
    gradients = Workload(topology, max(model.shards, ranks), model.length, model.item_bytes, model.stats_length)
    parts = {
        COMPUTE: model.compute.seconds(-(-batch // ranks)),
        UPDATE: model.compute.update_s / (ranks if model.shares_update(ranks) else 1),
        SUMS: 0.0,
        NETWORK: 0.0,
    }
    sent, messages = 0.0, 0
    algorithm = _algorithm(cluster, gradients, gathers=model.gathers)
    exchanges = [(gradients, algorithm, 1, 1 - cluster.hidden)]
    for length, times in Counter(model.batch_sums).items():
        work = replace(gradients, length=length, item_bytes=8, stats_length=0)
        exchanges.append((work, _algorithm(cluster, work, gathers=True), times, 1.0))
    for work, name, times, waited in exchanges if ranks > 1 else ():
        parts[SUMS] += times * _sums_s(work, cluster, name)
        if nodes > 1:
            traffic = TRAFFIC[name](work)
            parts[NETWORK] += times * waited * traffic.messages_s(_between(cluster))
            sent += times * traffic.sent_bytes / tasks
            messages += times * traffic.messages
    return Step(nodes, ranks, batch, parts, algorithm, sent, messages, model.memory(ranks, batch))


def _between(cluster: Cluster) -> Network:
    assert cluster.machine.between is not None
    return cluster.machine.between


def _algorithm(cluster: Cluster, work: Workload, *, gathers: bool) -> str:
    """Return what `hpcnn.comm.exchange.probe.Chooser` would choose."""
    if len(work.topology.hosts) == 1:
        return GATHER if gathers and contributed_bytes(work) <= SMALL_BYTES else DIRECT
    return fastest(work, _between(cluster), gather=gathers)


def _sums_s(work: Workload, cluster: Cluster, algorithm: str) -> float:
    """Return what a host's ranks add and copy, together as fast as its memory, and wait for each other."""
    machine, tasks = cluster.machine, cluster.tasks
    moved = _moved_bytes(work, algorithm)
    meeting_s = machine.within.latency_s if machine.within else _MEETING_S
    assert machine.memory_byte_s is not None
    byte_s = CACHED_BYTE_S / tasks if moved < CACHE_BYTES * tasks else machine.memory_byte_s
    additions_s = TRAFFIC[algorithm](work).additions * ADDITION_S
    return additions_s + moved * byte_s + _MEETINGS * (tasks - 1).bit_length() * meeting_s


def _moved_bytes(work: Workload, algorithm: str) -> float:
    """Return the bytes that the ranks of a host read and write to add: messages themselves are the network's."""
    topology, traffic = work.topology, TRAFFIC[algorithm](work)
    hosts, whole = len(topology.hosts), work.length * work.item_bytes
    some = {0, hosts // 2, hosts - 1}
    if algorithm == GATHER:
        return traffic.added_bytes * topology.lanes
    slots = max(sum(len(topology.rank_subtrees(work.shards, rank)) for rank in topology.hosts[host]) for host in some)
    sums = max(len(topology.host_subtrees(work.shards, host)) for host in some)
    here = slots + sums if slots > sums else 0  # what is a sum already is sent where it lies
    if algorithm == HALVING:
        return here * whole + _TOUCHED * traffic.sent_bytes
    relayed = here * whole * (hosts - 1) / hosts
    return relayed + (slots + (hosts - 1) * sums + 1) * whole / hosts


@dataclass(frozen=True)
class Scaling:
    """Steps on growing numbers of nodes, against the first."""

    steps: Sequence[Step]

    @property
    def efficiencies(self) -> list[float]:
        """Samples per second and node, as a part of those of the first."""
        rates = [step.batch / step.seconds / step.nodes for step in self.steps]
        return [rate / rates[0] for rate in rates]

    def towards(self, noise_scale: float) -> list[float]:
        """Return the progress per second and node, as a part of that of the first, at a gradient noise scale.

        A batch of B samples is worth B / (1 + B / scale) of them (McCandlish et al., arXiv:1812.06162).
        """
        found = [
            each / (1 + step.batch / noise_scale) for each, step in zip(self.efficiencies, self.steps, strict=True)
        ]
        return [each / found[0] for each in found]


def most_that_pay(steps: Sequence[Step], efficiencies: Sequence[float]) -> int:
    """Return the index of the largest number of nodes up to which all efficiencies are at least `PAYS`."""
    bad = (index for index, each in enumerate(efficiencies) if each < PAYS)
    return next(bad, len(steps)) - 1

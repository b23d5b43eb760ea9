"""The time of a step on any number of nodes: computation, sums in memory, and the messages of the real exchange."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hpcnn.comm.exchange.choice import TRAFFIC, Workload, fastest, fastest_on_host
from hpcnn.comm.exchange.plan import Topology
from hpcnn.comm.network import Machine, Network
from hpcnn.runs.prediction.compute import Compute

PAYS = 0.5
"""The least efficiency of nodes that pay."""
COMPUTE, UPDATE, SUMS, NETWORK = "compute", "update", "sums", "network"
_MEETING_S, _MEETINGS = 1e-6, 2
"""Of a host's ranks, per doubling of their number, where it is not known; how often they meet in a step, beside once
for each bucket."""


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
    """Whether short vectors may be gathered, where each rank updates everything."""
    shares_update: Callable[[int, int], bool]
    """Whether so many ranks, on so many nodes, update a part each."""
    memory: Callable[[int, int], int]
    """Bytes of a rank, by ranks and batch."""
    buckets: Callable[[int], int] = lambda nodes: 1
    """In how many parts gradients travel between so many nodes."""
    memory_bytes: int = 0
    """Of an entry in memory, where it is rounded on its way; 0: it travels as it is."""
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
    shards, buckets = max(model.shards, ranks), model.buckets(nodes)
    gradients = Workload(
        topology, shards, model.length, model.item_bytes, model.stats_length, buckets, model.memory_bytes
    )
    shares = model.shares_update(ranks, nodes)
    parts = {
        COMPUTE: model.compute.seconds(-(-batch // ranks)),
        UPDATE: model.compute.update_s / (ranks if shares else 1),
        SUMS: 0.0,
        NETWORK: 0.0,
    }
    sent, messages = 0.0, 0
    algorithm = _algorithm(cluster, gradients, gathers=model.gathers and not shares)
    exchanges = [(gradients, algorithm, 1, 1 - cluster.hidden)]
    for length, times in Counter(model.batch_sums).items():
        work = Workload(topology, shards, length, 8, 0)
        exchanges.append((work, _algorithm(cluster, work, gathers=True), times, 1.0))
    for work, name, times, waited in exchanges if ranks > 1 else ():
        parts[SUMS] += times * _sums_s(work, cluster, name)
        if nodes > 1:
            traffic = TRAFFIC[name](work)
            parts[NETWORK] += times * waited * traffic.network_s(_between(cluster))
            sent += times * traffic.sent_bytes / tasks
            messages += times * traffic.messages
    return Step(nodes, ranks, batch, parts, algorithm, sent, messages, model.memory(ranks, batch))


def _between(cluster: Cluster) -> Network:
    assert cluster.machine.between is not None
    return cluster.machine.between


def _algorithm(cluster: Cluster, work: Workload, *, gathers: bool) -> str:
    """Return what `hpcnn.comm.exchange.probe.Chooser` would choose."""
    if len(work.topology.hosts) == 1:
        return fastest_on_host(work, gather=gathers)
    return fastest(work, _between(cluster), gather=gathers)


def _sums_s(work: Workload, cluster: Cluster, algorithm: str) -> float:
    """Return what a host's ranks add and copy, together as fast as its memory, and wait for each other."""
    machine, tasks = cluster.machine, cluster.tasks
    meeting_s = machine.within.latency_s if machine.within else _MEETING_S
    assert machine.memory_byte_s is not None
    meetings = (_MEETINGS + work.buckets) * (tasks - 1).bit_length()
    return TRAFFIC[algorithm](work).local_s(machine.memory_byte_s * tasks) + meetings * meeting_s


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

"""The exact exchange of gradients: slices summed in the node's memory, and between nodes each byte once each way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.comm.contributions import BLOCK, Slots, fold, fold_block
from hpcnn.comm.node import NodeMemory
from hpcnn.comm.overlap import Schedule, WaitFor
from hpcnn.comm.plan import BucketPlan, Topology, buckets, plan_bucket
from hpcnn.comm.protocol import Array, Consume, Contribution
from hpcnn.memory import ALIGNMENT, aligned_empty
from hpcnn.phases import REDUCE, WAIT, Phases
from hpcnn.tree import Node, additions, additions_below

_PAGE = 4096
_STATE_TAG, _TAILS_TAG, _FLAGS_TAG, _FIRST_TAG = range(4)

Message = tuple[int, Array]
"""The rank at the other end, and the bytes."""


class Transfer(Protocol):
    """Messages that are sent and received together, again and again."""

    def start(self) -> None:
        """Let them go."""
        ...

    def wait(self, *, politely: bool) -> None:
        """Return once all have come; politely: without occupying a core meanwhile."""
        ...


class Links(Protocol):
    """Messages between ranks, of nodes that share no memory."""

    def transfer(self, sends: Sequence[Message], receives: Sequence[Message], tag: int) -> Transfer:
        """Return a transfer of contiguous arrays. Between two ranks, what is sent first is received first."""
        ...

    def allgather(self, own: Array, counts: Sequence[int]) -> Array:
        """Return the float64 vectors of all ranks, of lengths `counts`, one after the other. Collective."""
        ...


@dataclass(frozen=True)
class Place:
    """Where a rank stands among all: with whom it shares memory, and how it reaches the others."""

    rank: int
    topology: Topology
    memory: NodeMemory
    links: Links

    @property
    def node(self) -> int:
        """The number of the own node."""
        return self.topology.node_of(self.rank)


@dataclass(frozen=True)
class _Bucket:
    """One bucket with its messages."""

    plan: BucketPlan
    relays: Sequence[tuple[Sequence[Array], Sequence[tuple[int, int]]]]
    """What to add up for other nodes, into the first slot of each, along an order."""
    inward: Transfer
    """The node's sums to the owners of the pieces."""
    outward: Transfer
    """What the owners made of them, to all nodes."""
    parts: range
    """The numbers of the parts of the own piece."""


class TreeExchange:
    """The exchange of ranks on any number of nodes, in step: `start`, `ready` ..., `finish`.

    Args:
        place: this rank among the others.
        shards: leaves of the tree.
        length: entries of the vectors.
        dtype: their type.
        tail_length: entries of the tails.
        target: one copy a node, whose first `length` entries become the same everywhere; None makes one, for the sums.
        bucket: entries that travel while later ones are still computed; 0: all at the end.
        grain: pieces are cut at multiples of so many entries.
    """

    def __init__(
        self,
        place: Place,
        shards: int,
        length: int,
        dtype: DTypeLike,
        tail_length: int,
        *,
        target: Array | None = None,
        bucket: int = 0,
        grain: int = 1,
    ) -> None:
        kind = np.dtype(dtype)
        line = ALIGNMENT // kind.itemsize
        grain = -(-grain // line) * line
        self._place, self._grain = place, grain
        self._length = length
        self._own_slots(shards, length, kind, tail_length)
        if target is None:
            target = place.memory.allocate_common(length * kind.itemsize).view(kind)
        self.vector = target[:length]
        self._no_flags = bytes(len(place.topology.order))
        self._flags = place.memory.allocate_common(len(self._no_flags))[: len(self._no_flags)]
        self._order_all(shards)
        self.parts: list[slice] = []
        self._sums: list[list[Array]] = []
        self._bounds = buckets(length, bucket, grain)
        self._buckets = [self._bucket(number, bounds) for number, bounds in enumerate(self._bounds)]
        self._tails = _Tails(place, shards, self._local_tails, self._local_nodes, tail_length)
        self.tail = self._tails.total
        self._flag_transfer = self._flag_messages()
        self._schedule = Schedule(self._run, threaded=len(self._bounds) > 1)
        self._consume: Consume = self._copy_sum
        self.phases: Phases | None = None
        self._between: Callable[[], None] | None = None

    # ----------------------------------------------------------------------------------------------------- building

    def _own_slots(self, shards: int, length: int, kind: np.dtype[Any], tail_length: int) -> None:
        """Allocate this rank's contributions, and find its neighbours'."""
        place = self._place
        ranks = place.topology.nodes[place.node]
        nodes = [place.topology.rank_nodes(shards, rank) for rank in ranks]
        layouts = [Slots(len(own), length, kind, tail_length, alignment=_PAGE) for own in nodes]
        segments = place.memory.allocate(layouts[place.memory.rank].size)
        everyone = [
            layout.contributions(segment, own) for layout, segment, own in zip(layouts, segments, nodes, strict=True)
        ]
        self.contributions: Sequence[Contribution] = everyone[place.memory.rank]
        local = [part for contributions in everyone for part in contributions]
        self._local_nodes = [part.node for part in local]
        self._local_vectors = [part.vector for part in local]
        self._local_tails = [part.tail for part in local]

    def _order_all(self, shards: int) -> None:
        """Find the order in which the own node's slots, and the sums of other nodes between them, are added."""
        topology, own = self._place.topology, self._place.node
        self._node_nodes = [topology.node_nodes(shards, node) for node in range(len(topology.nodes))]
        slots = [self._local_nodes if node == own else nodes for node, nodes in enumerate(self._node_nodes)]
        self._order = additions(shards, [node for nodes in slots for node in nodes])
        self._relay_orders = [
            (self._local_nodes.index(_first_within(node, self._local_nodes)), additions_below(node, self._local_nodes))
            for node in self._node_nodes[own]
        ]

    def _bucket(self, number: int, bounds: tuple[int, int]) -> _Bucket:
        place = self._place
        plan = plan_bucket(place.topology, place.rank, bounds, self._grain)
        start, stop = plan.own
        kind = self.vector.dtype
        received = [
            [aligned_empty(stop - start, kind) for _ in nodes] if spans else []
            for nodes, spans in zip(self._node_nodes, plan.incoming, strict=True)
        ]
        sends: list[Message] = []
        relays = []
        for span in plan.relayed:
            slots = [vector[span.start : span.stop] for vector in self._local_vectors]
            for first, order in self._relay_orders:
                sends.append((span.rank, slots[first]))
                if order:
                    relays.append((slots, order))
        receives = [
            (span.rank, buffer[span.start - start : span.stop - start])
            for buffers, spans in zip(received, plan.incoming, strict=True)
            for span in spans
            for buffer in buffers
        ]
        back = [(span.rank, self.vector[span.start : span.stop]) for spans in plan.incoming for span in spans]
        forth = [(span.rank, self.vector[span.start : span.stop]) for span in plan.relayed]
        return _Bucket(
            plan,
            relays,
            place.links.transfer(sends, receives, _FIRST_TAG + 2 * number),
            place.links.transfer(back, forth, _FIRST_TAG + 2 * number + 1),
            self._cut_parts(plan.own, received),
        )

    def _cut_parts(self, own: tuple[int, int], received: Sequence[Sequence[Array]]) -> range:
        """Cut the own piece of a bucket into parts of a block at most, each with its slots."""
        first = len(self.parts)
        start, stop = own
        marks = [start, *range((start // BLOCK + 1) * BLOCK, stop, BLOCK), stop] if start < stop else []
        for lo, hi in pairwise(marks):
            self.parts.append(slice(lo, hi))
            self._sums.append(
                [
                    slot
                    for node, buffers in enumerate(received)
                    for slot in (
                        [vector[lo:hi] for vector in self._local_vectors]
                        if node == self._place.node
                        else [buffer[lo - start : hi - start] for buffer in buffers]
                    )
                ]
            )
        return range(first, len(self.parts))

    def _flag_messages(self) -> Transfer:
        """Each rank's flag goes to one rank of every other node."""
        place, topology = self._place, self._place.topology
        local = place.memory.rank
        others = [ranks for node, ranks in enumerate(topology.nodes) if node != place.node]
        own = self._flags[place.rank : place.rank + 1]
        sends = [(ranks[local % len(ranks)], own) for ranks in others]
        count = len(topology.nodes[place.node])
        receives = [
            (rank, self._flags[rank : rank + 1])
            for ranks in others
            for index, rank in enumerate(ranks)
            if index % count == local
        ]
        return place.links.transfer(sends, receives, _FLAGS_TAG)

    # ------------------------------------------------------------------------------------------------------ a step

    @property
    def overlap(self) -> bool:
        """Whether buckets travel while later ones are computed. To be changed between steps, on all ranks alike."""
        return self._schedule.threaded

    @overlap.setter
    def overlap(self, value: bool) -> None:
        self._schedule.threaded = value

    def allreduce(self) -> None:
        """Sum all contributions of all ranks."""
        self.start()
        self.finish()

    def start(self, consume: Consume | None = None, between: Callable[[], None] | None = None) -> None:
        """Begin a step."""
        self._consume, self._between = consume or self._copy_sum, between
        self._schedule.start()

    def ready(self, start: int) -> None:
        """Say from where on the contributions are complete."""
        self._schedule.ready(start)

    def finish(self) -> bool:
        """Complete the step."""
        self._schedule.finish()
        return self._flags.tobytes() != self._no_flags

    def _run(self, wait_for: WaitFor | None) -> None:
        """Do the whole step, bucket by bucket, as their entries become ready."""
        politely = wait_for is not None  # then this is a thread of its own, beside the computation
        wrong, under_way = False, None
        for bucket in self._buckets:
            if wait_for is not None:
                wait_for(bucket.plan.bounds[0])
            self._gather(bucket, politely=politely)
            if self._between is None:
                wrong |= self._pass_on(bucket)
                if under_way is not None:
                    under_way.wait(politely=politely)
                under_way = bucket.outward
        if under_way is not None:
            under_way.wait(politely=politely)
        if self._between is not None:
            self._between()
            for bucket in self._buckets:
                wrong |= self._pass_on(bucket)
                bucket.outward.wait(politely=politely)
        self._flags[self._place.rank] = wrong
        self._flag_transfer.start()
        self._flag_transfer.wait(politely=politely)
        self._enter(WAIT)
        self._place.memory.barrier(politely=politely)
        self._enter(REDUCE)

    def _gather(self, bucket: _Bucket, *, politely: bool) -> None:
        """Bring everything that the own piece of a bucket is the sum of within reach."""
        self._enter(WAIT)
        self._place.memory.barrier(politely=politely)
        self._enter(REDUCE)
        for slots, order in bucket.relays:
            fold(slots, order, slots[order[-1][0]])
        bucket.inward.start()
        if bucket is self._buckets[0]:
            self._tails.reduce(politely=politely)
        bucket.inward.wait(politely=politely)

    def _pass_on(self, bucket: _Bucket) -> bool:
        """Consume the own piece and send what comes of it; return whether something was wrong."""
        wrong = False
        for part in bucket.parts:
            wrong |= self._consume(part)
        bucket.outward.start()
        return wrong

    def sum_part(self, part: int, out: Array) -> None:
        """Write the sum of a part into `out`."""
        fold_block(self._sums[part], self._order, out)

    def _copy_sum(self, part: int) -> bool:
        self.sum_part(part, self.vector[self.parts[part]])
        return False

    def _enter(self, phase: str) -> None:
        if self.phases is not None and not self._schedule.threaded:
            self.phases.enter(phase)

    # ------------------------------------------------------------------------------------------ what is on each rank

    def allgather_parts(self, values: Array, grain: int) -> Array:
        """Return one value a block, from those of every rank's pieces."""
        topology = self._place.topology
        blocks = [
            [
                block
                for bounds in self._bounds
                for start, stop in [plan_bucket(topology, rank, bounds, self._grain).own]
                for block in range(start // grain, -(-stop // grain))
                if start < stop
            ]
            for rank in range(len(topology.order))
        ]
        everyone = self._place.links.allgather(values, [len(own) for own in blocks])
        result = np.empty_like(everyone)
        result[[block for own in blocks for block in own]] = everyone
        return result

    def gather_state(self, own: Array, out: Array | None) -> None:
        """Bring the entries of all ranks' parts to rank 0."""
        topology, rank = self._place.topology, self._place.rank
        sends, receives, position = [], [], 0
        for bounds in self._bounds:
            for peer in topology.order:
                start, stop = plan_bucket(topology, peer, bounds, self._grain).own
                if peer == rank:
                    piece = own[position : position + stop - start]
                    position += stop - start
                    if out is not None:
                        out[start:stop] = piece
                    elif len(piece):
                        sends.append((0, piece))
                elif out is not None and start < stop:
                    receives.append((peer, out[start:stop]))
        transfer = self._place.links.transfer(sends, receives, _STATE_TAG)
        transfer.start()
        transfer.wait(politely=False)


class _Tails:
    """The sum of the tails: every rank adds them all, those of other nodes as the nodes' sums."""

    def __init__(
        self, place: Place, shards: int, local: Sequence[Array], local_nodes: Sequence[Node], length: int
    ) -> None:
        topology = place.topology
        node_nodes = [topology.node_nodes(shards, node) for node in range(len(topology.nodes))]
        received = [list(np.zeros((len(nodes), length))) for nodes in node_nodes]
        own = [aligned_empty(length, np.float64) for _ in node_nodes[place.node]]
        """The sums of the own node, to be sent."""
        self._before = [
            step
            for node, total in zip(node_nodes[place.node], own, strict=True)
            for step in _summing(total, node, local, local_nodes)
        ]
        self.total = aligned_empty(length, np.float64)
        slots = [local if node == place.node else arrived for node, arrived in enumerate(received)]
        nodes = [local_nodes if node == place.node else each for node, each in enumerate(node_nodes)]
        self._after = _summing(
            self.total,
            (0, shards),
            [slot for each in slots for slot in each],
            [node for each in nodes for node in each],
        )
        index, count = place.memory.rank, len(topology.nodes[place.node])
        others = [(node, ranks) for node, ranks in enumerate(topology.nodes) if node != place.node]
        self._alone = not others
        self._transfer = place.links.transfer(
            [(rank, total) for _, ranks in others for rank in ranks[index::count] for total in own],
            [(ranks[index % len(ranks)], slot) for node, ranks in others for slot in received[node]],
            _TAILS_TAG,
        )

    def reduce(self, *, politely: bool) -> None:
        """Sum the tails of all ranks into `total`."""
        if not self._alone:
            for step in self._before:
                step()
            self._transfer.start()
            self._transfer.wait(politely=politely)
        for step in self._after:
            step()


def _summing(total: Array, node: Node, slots: Sequence[Array], nodes: Sequence[Node]) -> list[Callable[[], Any]]:
    """Return the steps that sum the slots below `node` into `total` and leave the slots as they are."""
    order = additions_below(node, nodes)
    if not order:
        return [partial(np.copyto, total, slots[nodes.index(node)])]
    sums = list(slots)
    steps: list[Callable[[], Any]] = []
    for number, (left, right) in enumerate(order):
        out = total if number == len(order) - 1 else np.empty_like(total)
        steps.append(partial(np.add, sums[left], sums[right], out))
        sums[left] = out
    return steps


def _first_within(node: Node, nodes: Sequence[Node]) -> Node:
    return next(inner for inner in nodes if node[0] <= inner[0] and inner[1] <= node[1])

"""Each rank sends to the owners of the partitions at once: one round, and a message to every other host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from hpcnn.comm.exchange.buffers import BLOCK
from hpcnn.comm.exchange.compression import CompressedSummation, EncodedTransfer, OwnResiduals
from hpcnn.comm.exchange.flags import Flags
from hpcnn.comm.exchange.formats import FORMATS, Format
from hpcnn.comm.exchange.partition import allgather_rows
from hpcnn.comm.exchange.plan import BucketPlan, Range, piece, plan_bucket, rank_ranges
from hpcnn.comm.exchange.reduction import Addends, Addition, ExactSummation, Summation
from hpcnn.comm.exchange.route import FIRST_TAG, FLAGS_TAG, STATS_TAG, HostSlots, Job, Part, RowGather
from hpcnn.comm.exchange.stats_reduction import StatsReduction
from hpcnn.comm.exchange.transport import Message, Transfer
from hpcnn.comm.protocol import Array, Residuals
from hpcnn.core.tree import Subtree, maximal_subtrees


@dataclass(frozen=True)
class _Bucket:
    """One bucket with its messages."""

    plan: BucketPlan
    relays: Sequence[Addition]
    """What adds up this host's slots for other hosts."""
    inward: Transfer | None
    """The host's sums to the owners of the partitions; None on one host."""
    outward: Transfer | None
    """What the owners made of them, to all hosts."""
    parts: Sequence[Part]


class DirectRoute:
    """A `Route` with the fewest bytes on the way, and as many messages as there are other hosts."""

    def __init__(self, slots: HostSlots, job: Job) -> None:
        self._slots, self._job, self._place = slots, job, slots.place
        self._apart = len(self._place.topology.hosts) > 1
        self.residuals: Residuals | None = None
        self._form: Format | None = None
        """The format in which sums are returned, if not their own."""
        self._summation = self._choose_summation()
        self._flags = Flags(self._place, FLAGS_TAG)
        self._buckets = [self._bucket(number, bounds) for number, bounds in enumerate(job.bounds)]
        self._stats = StatsReduction(
            self._place, slots.shards, slots.stats, slots.subtrees, job.stats_length, STATS_TAG
        )
        self.stats = self._stats.total
        self._under_way: Transfer | None = None

    # ----------------------------------------------------------------------------------------------------- building

    def _choose_summation(self) -> Summation:
        slots, compression, topology = self._slots, self._job.compression, self._place.topology
        count = compression.groups if compression else 1
        self._sent = [topology.host_subtrees(slots.shards, host, count) for host in range(len(topology.hosts))]
        addends = Addends(slots.shards, self._place.host, self._sent, slots.subtrees, slots.vectors)
        if compression is None:
            return ExactSummation(addends)
        kind = slots.vectors[0].dtype
        form = FORMATS[compression.kind](kind)
        groups = maximal_subtrees(slots.shards, (0, slots.shards), count)
        residuals = OwnResiduals(self._place, groups, self._job.bounds[0][1], kind, self._rounded)
        self.residuals = residuals
        if self._job.gives_sums and self._apart:
            self._form = form
        return CompressedSummation(addends, groups, form, residuals)

    def _rounded(self, group: Subtree | None, rank: int) -> list[Range]:
        """Return what a rank rounds of the sum of a group, or of all groups.

        Ranks of the host that has the whole of a group round it: for its own partitions the owners, for others' the
        relays. Everything else is rounded by the owners of the partitions.
        """
        topology, job = self._place.topology, self._job
        home = None if group is None else topology.home_of(self._slots.shards, group)
        if home is not None and home != topology.host_of(rank):
            return []
        own = [each for bounds in job.bounds for each in self.owned(bounds, rank)]
        if home is None:
            return own
        return own + [each for ranges in self._ranges for each in ranges[rank][1]]

    @cached_property
    def _ranges(self) -> list[dict[int, tuple[Range, list[Range]]]]:
        """What each rank adds up of each bucket."""
        return [rank_ranges(self._place.topology, bounds, self._job.alignment) for bounds in self._job.bounds]

    def _bucket(self, number: int, bounds: Range) -> _Bucket:
        place = self._place
        plan = plan_bucket(place.topology, place.rank, bounds, self._job.alignment)
        start, stop = plan.own
        received = [
            [self._summation.buffer(subtree, stop - start) for subtree in subtrees] if spans else []
            for subtrees, spans in zip(self._sent, plan.incoming, strict=True)
        ]
        sends: list[Message] = []
        relays: list[Addition] = []
        for span in plan.relayed:
            for step, array in self._summation.relays(span.start, span.stop):
                sends.append((span.rank, array))
                if step is not None:
                    relays.append(step)
        receives = [
            (span.rank, buffer[span.start - start : span.stop - start])
            for buffers, spans in zip(received, plan.incoming, strict=True)
            for span in spans
            for buffer in buffers
        ]
        tag = FIRST_TAG + 2 * number
        return _Bucket(
            plan,
            relays,
            place.links.transfer(sends, receives, tag) if self._apart else None,
            self._outward(plan, tag + 1) if self._apart else None,
            list(self._cut_parts(plan.own, received)),
        )

    def _outward(self, plan: BucketPlan, tag: int) -> Transfer:
        """Return the transfer of this rank's partition to other hosts, and of theirs to this host."""
        start, stop = plan.own
        vector, after = self._job.vector, self._place.host + 1
        returned = [*plan.incoming[after:], *plan.incoming[:after]]

        def connect(own: Array, arriving: Sequence[Array]) -> Transfer:
            back = [(span.rank, own[span.start - start : span.stop - start]) for to in returned for span in to]
            forth = [(span.rank, array) for span, array in zip(plan.relayed, arriving, strict=True)]
            return self._place.links.transfer(back, forth, tag)

        own, arriving = vector[start:stop], [vector[span.start : span.stop] for span in plan.relayed]
        return EncodedTransfer(self._form, own, arriving, connect) if self._form else connect(own, arriving)

    def _cut_parts(self, own: Range, received: Sequence[Sequence[Array]]) -> Iterator[Part]:
        """Cut this rank's partition of a bucket into parts, each with its slots."""
        start = own[0]
        for lo, hi in blocks_of(own, whole=self._job.gives_sums and self._summation.one_pass):
            arrived = [[buffer[lo - start : hi - start] for buffer in buffers] for buffers in received]
            yield slice(lo, hi), self._summation.part(lo, hi, arrived)

    def parts(self, bucket: int) -> Sequence[Part]:
        """Return what this rank updates in a bucket."""
        return self._buckets[bucket].parts

    def owned(self, bounds: Range, rank: int) -> list[Range]:
        """Return the partition of a rank."""
        topology = self._place.topology
        own = piece(bounds, len(topology.order), self._job.alignment, topology.positions[rank])
        return [own] if own[0] < own[1] else []

    def cell_gather(self, starts: Sequence[int], columns: int) -> RowGather:
        """Return what gathers rows of values by one allgather."""
        return allgather_rows(
            self._place, lambda rank: [each for bounds in self._job.bounds for each in self.owned(bounds, rank)], starts
        )

    # ------------------------------------------------------------------------------------------------------ a step

    def gather(self, bucket: int, *, spin: bool) -> None:
        """Send this host's sums to the owners, and wait for those of the other hosts."""
        current = self._buckets[bucket]
        for relay in current.relays:
            relay()
        if current.inward is not None:
            current.inward.start()
        if bucket == 0:
            self._under_way = None
            self._stats.reduce(spin=spin)
        if current.inward is not None:
            current.inward.wait(spin=spin)

    def send(self, bucket: int, *, spin: bool) -> None:
        """Start to send a partition, and wait for the end of the one before."""
        outward = self._buckets[bucket].outward
        if outward is None:
            return
        outward.start()
        if self._under_way is not None:
            self._under_way.wait(spin=spin)
        self._under_way = outward

    def complete(self, ok: bool, *, spin: bool) -> None:
        """Wait for the other ranks' partitions, and exchange flags."""
        if self._under_way is not None:
            self._under_way.wait(spin=spin)
        self._flags.send(ok, spin=spin)

    def all_ok(self) -> bool:
        """Return whether every rank is ok."""
        return self._flags.all()


def blocks_of(own: Range, *, whole: bool) -> list[Range]:
    """Return a partition in blocks, which stay in the cache from one use to the next; `whole`: in one."""
    start, stop = own
    block = stop if whole else BLOCK
    return list(pairwise([start, *range((start // block + 1) * block, stop, block), stop])) if start < stop else []

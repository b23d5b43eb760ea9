"""The exact exchange of gradients: slices summed in the host's memory, and between hosts each byte once each way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.comm.exchange.buffers import BLOCK, BufferLayout
from hpcnn.comm.exchange.compression import CompressedSummation, EncodedTransfer, OwnResiduals
from hpcnn.comm.exchange.exchange_thread import ExchangeThread
from hpcnn.comm.exchange.flags import Flags
from hpcnn.comm.exchange.formats import FORMATS, Format
from hpcnn.comm.exchange.partition import Partitions
from hpcnn.comm.exchange.plan import BucketPlan, buckets, plan_bucket
from hpcnn.comm.exchange.reduction import Addends, Addition, ExactSummation, Sum, Summation
from hpcnn.comm.exchange.stats_reduction import StatsReduction
from hpcnn.comm.exchange.transport import Message, Place, Transfer
from hpcnn.comm.protocol import Array, Compression, Contribution, GatherCells, Residuals, UpdateStep
from hpcnn.core.activity import OPTIMIZER, OTHER, REDUCE, WAIT, Activity
from hpcnn.core.tree import maximal_subtrees
from hpcnn.system.memory import ALIGNMENT

_PAGE = 4096
_STATE_TAG, _STATS_TAG, _FLAGS_TAG, _FIRST_TAG = range(4)


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
    parts: range
    """The numbers of the parts of this rank's partition."""
    exchange: TreeExchange

    def send(self) -> None:
        """Send this rank's partition to the other hosts."""
        if self.outward is not None:
            self.exchange.send(self.outward)


class TreeExchange:
    """The exchange of ranks on any number of hosts, in which each rank updates its own parts; see `Exchange`.

    Args:
        place: this rank among the others.
        shards: leaves of the tree.
        length: entries of the vectors.
        dtype: their type.
        stats_length: entries of the stats.
        target: one copy per host, whose first `length` entries become the same everywhere; None: one for the sums.
        bucket: entries that travel while later ones are still computed; 0: all at the end.
        alignment: partitions are cut at multiples of this many entries.
        compression: how sums are rounded on their way, or None.
    """

    keeps_sums = False

    def __init__(
        self,
        place: Place,
        shards: int,
        length: int,
        dtype: DTypeLike,
        stats_length: int,
        *,
        target: Array | None = None,
        bucket: int = 0,
        alignment: int = 1,
        compression: Compression | None = None,
    ) -> None:
        kind = np.dtype(dtype)
        line = ALIGNMENT // kind.itemsize
        alignment = -(-alignment // line) * line
        self._place, self._alignment = place, alignment
        self._apart = len(place.topology.hosts) > 1
        self._bounds = buckets(length, bucket, alignment)
        self._partitions = Partitions(place, self._bounds, alignment)
        self._own_slots(shards, length, kind, stats_length, compression.groups if compression else 1)
        self.residuals: Residuals | None = None
        self._form: Format | None = None
        """The format in which sums are returned, if not their own."""
        self._gives_sums = target is None
        self._summation = self._choose_summation(shards, compression)
        if target is None:
            target = place.memory.allocate_common(length * kind.itemsize).view(kind)
        self.vector = target[:length]
        self._flags = Flags(place, _FLAGS_TAG)
        self._own_parts: list[slice] = []
        self.parts: Sequence[slice] = self._own_parts
        self.sums: list[Sum] = []
        self._buckets = [self._bucket(number, bounds) for number, bounds in enumerate(self._bounds)]
        self._stats = StatsReduction(place, shards, self._local_stats, self._local_subtrees, stats_length, _STATS_TAG)
        self.stats = self._stats.total
        self._thread = ExchangeThread(threaded=len(self._bounds) > 1)
        self.ready: Callable[[int], None] = self._thread.ready
        self.met = False
        self._under_way: Transfer | None = None
        self.activity = Activity()

    # ----------------------------------------------------------------------------------------------------- building

    def _own_slots(self, shards: int, length: int, kind: np.dtype[Any], stats_length: int, groups: int) -> None:
        """Allocate this rank's contributions, and find its neighbours'."""
        place = self._place
        ranks = place.topology.hosts[place.host]
        subtrees = [place.topology.rank_subtrees(shards, rank, groups) for rank in ranks]
        layouts = [BufferLayout(len(own), length, kind, stats_length, alignment=_PAGE) for own in subtrees]
        segments = place.memory.allocate(layouts[place.memory.rank].size)
        everyone = [
            layout.contributions(segment, own) for layout, segment, own in zip(layouts, segments, subtrees, strict=True)
        ]
        self.contributions: Sequence[Contribution] = everyone[place.memory.rank]
        local = [part for contributions in everyone for part in contributions]
        self._local_subtrees = [part.subtree for part in local]
        self._local_vectors = [part.vector for part in local]
        self._local_stats = [part.stats for part in local]

    def _choose_summation(self, shards: int, compression: Compression | None) -> Summation:
        topology, count = self._place.topology, compression.groups if compression else 1
        self._sent = [topology.host_subtrees(shards, host, count) for host in range(len(topology.hosts))]
        addends = Addends(shards, self._place.host, self._sent, self._local_subtrees, self._local_vectors)
        if compression is None:
            return ExactSummation(addends)
        kind = self._local_vectors[0].dtype
        form = FORMATS[compression.kind](kind)
        groups = maximal_subtrees(shards, (0, shards), count)
        residuals = OwnResiduals(self._place, shards, groups, self._bounds, self._alignment, kind, _STATE_TAG)
        self.residuals = residuals
        if self._gives_sums and self._apart:
            self._form = form
        return CompressedSummation(addends, groups, form, residuals)

    def _bucket(self, number: int, bounds: tuple[int, int]) -> _Bucket:
        place = self._place
        plan = plan_bucket(place.topology, place.rank, bounds, self._alignment)
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
        return _Bucket(
            plan,
            relays,
            place.links.transfer(sends, receives, _FIRST_TAG + 2 * number) if self._apart else None,
            self._outward(plan, _FIRST_TAG + 2 * number + 1) if self._apart else None,
            self._cut_parts(plan.own, received),
            self,
        )

    def _outward(self, plan: BucketPlan, tag: int) -> Transfer:
        """Return the transfer of this rank's partition to other hosts, and of theirs to this host."""
        start, stop = plan.own

        def connect(own: Array, arriving: Sequence[Array]) -> Transfer:
            back = [(span.rank, own[span.start - start : span.stop - start]) for to in plan.incoming for span in to]
            forth = [(span.rank, array) for span, array in zip(plan.relayed, arriving, strict=True)]
            return self._place.links.transfer(back, forth, tag)

        own, arriving = self.vector[start:stop], [self.vector[span.start : span.stop] for span in plan.relayed]
        return EncodedTransfer(self._form, own, arriving, connect) if self._form else connect(own, arriving)

    def _cut_parts(self, own: tuple[int, int], received: Sequence[Sequence[Array]]) -> range:
        """Cut this rank's partition of a bucket into parts, each with its slots."""
        first = len(self._own_parts)
        start, stop = own
        # Blocks stay in the cache from one use to the next. Where there is but one, they would only cost calls.
        block = stop if self._gives_sums and self._summation.one_pass else BLOCK
        marks = [start, *range((start // block + 1) * block, stop, block), stop] if start < stop else []
        for lo, hi in pairwise(marks):
            self._own_parts.append(slice(lo, hi))
            arrived = [[buffer[lo - start : hi - start] for buffer in buffers] for buffers in received]
            self.sums.append(self._summation.part(lo, hi, arrived))
        return range(first, len(self._own_parts))

    # ------------------------------------------------------------------------------------------------------ a step

    @property
    def overlap(self) -> bool:
        """Whether buckets travel while later ones are computed. To be changed between steps, on all ranks alike."""
        return self._thread.threaded

    @overlap.setter
    def overlap(self, value: bool) -> None:
        self._thread.threaded = value

    def start(self, step: UpdateStep) -> None:
        """Begin a step."""
        self._thread.start(step)

    def finish(self) -> bool:
        """Run the step, or wait for its end."""
        if self._thread.threaded:
            self.activity.enter(WAIT)
        return self._thread.finish()

    def buckets(self) -> Iterator[_Bucket]:
        """Yield each bucket once this rank's partition of it can be summed."""
        self._under_way = None
        for bucket in self._buckets:
            if self._thread.threaded:
                self._enter(OTHER)
                self._thread.wait_for(bucket.plan.bounds[0])
            self._gather(bucket)
            yield bucket

    def _gather(self, bucket: _Bucket) -> None:
        """Make all addends of this rank's partition of a bucket available."""
        if self.met:
            self.met = False
            self._enter(REDUCE)
        else:
            self._meet()
        for relay in bucket.relays:
            relay()
        if bucket.inward is not None:
            bucket.inward.start()
        if bucket is self._buckets[0]:
            self._stats.reduce(spin=self._spin)
        if bucket.inward is not None:
            bucket.inward.wait(spin=self._spin)

    def send(self, outward: Transfer) -> None:
        """Start to send a partition, and wait for the end of the one before."""
        self._enter(REDUCE)
        outward.start()
        if self._under_way is not None:
            self._under_way.wait(spin=self._spin)
        self._under_way = outward

    def complete(self, ok: bool) -> bool:
        """Wait for the other ranks' partitions; return whether `ok` holds on every rank."""
        if self._under_way is not None:
            self._under_way.wait(spin=self._spin)
        self._flags.send(ok, spin=self._spin)
        self._meet()
        if self._thread.threaded:
            self._enter(OTHER)
        return self._flags.all()

    @property
    def _spin(self) -> bool:
        """Whether to wait busily. The thread leaves its core to the computation."""
        return not self._thread.threaded

    def _meet(self) -> None:
        """Wait for the other ranks of the host."""
        self._enter(WAIT)
        self._place.memory.barrier(spin=self._spin)
        self._enter(REDUCE)

    def _enter(self, phase: str) -> None:
        """Tell what the step is doing, on the thread that does it."""
        activity = self.activity.exchange_thread if self._thread.threaded else self.activity
        if activity is not None:
            activity.enter(phase)

    def sum_into(self, part: int, out: Array) -> None:
        """Write the sum of a part into `out`; once a step."""
        self._enter(REDUCE)
        self.sums[part](out)
        self._enter(OPTIMIZER)

    # ------------------------------------------------------------------------------------------ what is on each rank

    def cell_gather(self, starts: Sequence[int]) -> GatherCells:
        """Return what gathers rows of values for the cells that begin at `starts`."""
        gather = self._partitions.cell_gather(starts)

        def waiting(values: Array) -> Array:
            self._enter(WAIT)
            result = gather(values)
            self._enter(OPTIMIZER)
            return result

        return waiting

    def gather_state(self, own: Array, block: int) -> Iterator[Array | None]:
        """Bring the entries of all ranks' parts to rank 0, block by block."""
        return self._partitions.gather(own, block, _STATE_TAG)

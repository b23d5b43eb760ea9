"""Recursive halving and doubling between hosts: messages that grow with the logarithm of the number of hosts.

In the rounds of `hpcnn.comm.exchange.halving` sums of canonical subtrees travel: of all leaves of the hosts that have
merged so far, in the fewest subtrees. The stats travel in the messages of the first bucket, and the flags in those that
return the last one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from hpcnn.comm.exchange.buffers import BLOCK
from hpcnn.comm.exchange.compression import TOTAL, OwnResiduals, name_of
from hpcnn.comm.exchange.direct_route import blocks_of
from hpcnn.comm.exchange.doubling import Doubling
from hpcnn.comm.exchange.formats import FORMATS
from hpcnn.comm.exchange.halving import (
    Group,
    Round,
    Share,
    halving_rounds,
    home_group,
    lanes_of,
    member_piece,
    rank_of_lane,
)
from hpcnn.comm.exchange.halving_stats import HalvingStats
from hpcnn.comm.exchange.merging import Merge, Piece, Rounding, Step, merging, summing_into
from hpcnn.comm.exchange.packets import Packet
from hpcnn.comm.exchange.plan import Range, piece
from hpcnn.comm.exchange.reduction import Sum
from hpcnn.comm.exchange.route import FIRST_TAG, ROWS_TAG, HostSlots, Job, Part
from hpcnn.comm.exchange.row_doubling import RowDoubling
from hpcnn.comm.exchange.transport import Message, Transfer
from hpcnn.comm.protocol import Array, Residuals
from hpcnn.core.tree import Subtree, maximal_subtrees
from hpcnn.system.memory import aligned_empty


@dataclass
class _Stage:
    """What all lanes of a rank do in one round of a bucket."""

    sends: list[Message] = field(default_factory=list)
    receives: list[Message] = field(default_factory=list)
    after: list[Step] = field(default_factory=list)


@dataclass(frozen=True)
class _Bucket:
    before: Sequence[Step]
    """What sums the slots of this host."""
    rounds: Sequence[tuple[Transfer, Sequence[Step]]]
    """Messages, and what merges what they bring."""
    parts: Sequence[Part]
    doubling: Doubling


class HalvingRoute:
    """A `Route` in rounds: each rank exchanges its lanes of the vector with one or two other hosts in a round."""

    def __init__(self, slots: HostSlots, job: Job) -> None:
        self._slots, self._job, self._place = slots, job, slots.place
        topology = self._place.topology
        self._hosts = len(topology.hosts)
        self._subtrees_of: dict[Group, list[Subtree]] = {}
        self._lanes = lanes_of(topology, self._place.rank)
        self.residuals: Residuals | None = None
        self._rounding = self._make_rounding()
        neighbours = len(topology.hosts[self._place.host])
        self._raised = self._place.memory.allocate_common(neighbours)[:neighbours]
        """The flags of the ranks of this host."""
        self._flag = np.zeros(1, np.uint8)
        """Whether some rank is not ok, as far as is known."""
        self.stats = aligned_empty(job.stats_length, np.float64)
        self._buckets = [self._bucket(number, bounds) for number, bounds in enumerate(job.bounds)]

    # ----------------------------------------------------------------------------------------------------- building

    def _make_rounding(self) -> Rounding | None:
        job, slots = self._job, self._slots
        if job.compression is None:
            return None
        kind = slots.vectors[0].dtype
        groups = maximal_subtrees(slots.shards, (0, slots.shards), job.compression.groups)
        residuals = OwnResiduals(self._place, groups, job.bounds[0][1], kind, self._rounded)
        self.residuals = residuals
        names = {group: name_of(number) for number, group in enumerate(groups)}
        return Rounding(FORMATS[job.compression.kind](kind), residuals, names)

    def _rounded(self, group: Subtree | None, rank: int) -> list[Range]:
        """Return what a rank rounds of the sum of a group, or of all groups: its pieces when that sum is complete."""
        topology = self._place.topology
        home = (0, self._hosts) if group is None else home_group(topology, self._slots.shards, group)
        if not home[0] <= topology.host_of(rank) < home[1]:
            return []
        return [each for bounds in self._job.bounds for each in self._pieces(home, bounds, rank)]

    def owned(self, bounds: Range, rank: int) -> list[Range]:
        """Return what `rank` updates in the bucket of these bounds."""
        return self._pieces((0, self._hosts), bounds, rank)

    def _pieces(self, group: Group, bounds: Range, rank: int) -> list[Range]:
        """Return the pieces of a rank's lanes that its host has as a member of a group."""
        topology, alignment = self._place.topology, self._job.alignment
        host = topology.host_of(rank)
        pieces = [
            member_piece(group, host, self._bounds_of(lane, bounds), alignment) for lane in lanes_of(topology, rank)
        ]
        return [each for each in pieces if each[0] < each[1]]

    def _subtrees(self, hosts: Group) -> list[Subtree]:
        if hosts not in self._subtrees_of:
            self._subtrees_of[hosts] = self._place.topology.hosts_subtrees(self._slots.shards, hosts)
        return self._subtrees_of[hosts]

    def _bucket(self, number: int, bounds: Range) -> _Bucket:
        place, job = self._place, self._job
        plans = self._plans(bounds)
        first_plan = plans[self._lanes[0]]
        stages = [_Stage() for _ in range(len(first_plan) + 1)]
        parts: list[Part] = []
        stats = HalvingStats(job.stats_length, first_plan, self._subtrees) if number == 0 else None
        for lane, plan in plans.items():
            parts += self._lane(lane, self._bounds_of(lane, bounds), plan, stages, stats)
        if stats is not None:
            summing = stats.stages(self._slots.stats, self._slots.subtrees, self.stats)
            for stage, steps in zip(stages, summing, strict=True):
                stage.after += steps
        tag = FIRST_TAG + 2 * number
        first, *others = stages
        transfers = [place.links.transfer(stage.sends, stage.receives, tag) for stage in others]
        flag = self._flag if number == len(job.bounds) - 1 else None
        form = self._rounding.form if self._rounding and job.gives_sums else None
        return _Bucket(
            first.after,
            [(transfer, stage.after) for transfer, stage in zip(transfers, others, strict=True)],
            parts,
            Doubling(place, job.vector, plans, form, flag, tag + 1),
        )

    def _plans(self, bounds: Range) -> dict[int, list[Round]]:
        """Return the rounds of a bucket, for each lane of this rank."""
        host, alignment = self._place.host, self._job.alignment
        return {
            lane: halving_rounds(self._hosts, host, self._bounds_of(lane, bounds), alignment) for lane in self._lanes
        }

    def _bounds_of(self, lane: int, bounds: Range) -> Range:
        return piece(bounds, self._place.topology.lanes, self._job.alignment, lane)

    def _lane(
        self, lane: int, bounds: Range, plan: Sequence[Round], stages: Sequence[_Stage], stats: HalvingStats | None
    ) -> list[Part]:
        """Add to the stages what they do for a lane; return the parts of it."""
        slots = [
            Piece(subtree, bounds[0], vector[slice(*bounds)])
            for subtree, vector in zip(self._slots.subtrees, self._slots.vectors, strict=True)
        ]
        for number, (stage, following, current) in enumerate(zip(stages, stages[1:], plan, strict=False)):
            packets = self._sent_packets(lane, current, stats)
            following.sends += [(rank, packet.data) for rank, packet in packets]
            if stats is not None:
                for _, packet in packets:
                    if packet.stats.size:
                        stats.send(number, packet.stats)
            slots = self._merge(stage, slots, current, [packet for _, packet in packets], raw=number == 0)
            slots += self._received(lane, following, number, current, stats)
            slots.sort(key=lambda each: each.subtree)
        return list(self._cut_parts(plan[-1].after, slots))

    def _merge(
        self, stage: _Stage, slots: Sequence[Piece], current: Round, packets: Sequence[Packet], *, raw: bool
    ) -> list[Piece]:
        """Let a stage sum the slots as far as they go, and write what the following round sends; return the sums."""
        held = []
        subtrees = self._subtrees(current.side)
        for index, subtree in enumerate(subtrees):
            below = [slot for slot in slots if subtree[0] <= slot.subtree[0] and slot.subtree[1] <= subtree[1]]
            merge = Merge.of(subtree, [slot.subtree for slot in below], self._names, raw=raw)
            for share, packet in zip(current.sends, packets, strict=True):
                stage.after += merging(merge, below, share.start, share.stop, packet.vectors[index], self._rounding)
            stage.after += merging(merge, below, *current.after, None, self._rounding)
            held.append(Piece(subtree, current.after[0], below[merge.slot].part(*current.after)))
        return held

    def _received(
        self, lane: int, stage: _Stage, number: int, current: Round, stats: HalvingStats | None
    ) -> list[Piece]:
        """Return room for what a round brings, as slots, and let its stage decode it."""
        start, stop = current.after
        subtrees = self._subtrees(current.other)
        kind = self._slots.vectors[0].dtype
        pieces = [Piece(subtree, start, aligned_empty(stop - start, kind)) for subtree in subtrees]
        for share in current.receives:
            carries = stats is not None and share.stats and lane == self._lanes[0]
            packet = self._packet(share, subtrees, stats.size(current.other) if stats and carries else 0)
            stage.receives.append((rank_of_lane(self._place.topology, share.host, lane), packet.data))
            if stats is not None and carries:
                stats.receive(number, packet.stats)
            for index, arrived in enumerate(packet.vectors):
                each = pieces[index]
                if arrived.dtype == kind and len(current.receives) == 1:
                    pieces[index] = Piece(each.subtree, start, arrived)
                else:
                    stage.after += self._unpacking(arrived, each.part(share.start, share.stop))
        return pieces

    def _unpacking(self, arrived: Array, out: Array) -> Iterator[Step]:
        for start in range(0, out.size, BLOCK):
            block = slice(start, start + BLOCK)
            if self._rounding is None or arrived.dtype == out.dtype:
                yield partial(np.copyto, out[block], arrived[block])
            else:
                yield partial(self._rounding.form.decode, arrived[block], out[block])

    def _sent_packets(self, lane: int, current: Round, stats: HalvingStats | None) -> list[tuple[int, Packet]]:
        """Return the messages of a round with the ranks that they go to."""
        topology, packets = self._place.topology, []
        for share in current.sends:
            rank = rank_of_lane(topology, share.host, lane)
            carries = stats is not None and share.stats and lane == lanes_of(topology, rank)[0]
            length = stats.size(current.side) if stats and carries else 0
            packets.append((rank, self._packet(share, self._subtrees(current.side), length)))
        return packets

    def _packet(self, share: Share, subtrees: Sequence[Subtree], stats_length: int) -> Packet:
        kind = self._slots.vectors[0].dtype
        form = self._rounding.form if self._rounding else None
        kinds = [form.empty(0).dtype if form and each in self._names else kind for each in subtrees]
        return Packet(share.stop - share.start, kinds, stats_length)

    @property
    def _names(self) -> Mapping[Subtree, str]:
        return self._rounding.names if self._rounding else {}

    def _cut_parts(self, own: Range, slots: Sequence[Piece]) -> Iterator[Part]:
        """Cut this rank's piece of a lane into parts, each with what sums it."""
        shards = self._slots.shards
        merge = Merge.of((0, shards), [slot.subtree for slot in slots], self._names, raw=False)
        one_pass = self._rounding is None and len(merge.order) == 1
        for start, stop in blocks_of(own, whole=self._job.gives_sums and one_pass):
            yield slice(start, stop), self._sum(merge, slots, start, stop)

    def _sum(self, merge: Merge, slots: Sequence[Piece], start: int, stop: int) -> Sum:
        """Return what writes the sum of some entries over all shards."""
        rounding, write = self._rounding, summing_into(merge, slots, start, stop, self._rounding)
        if rounding is None:
            return write
        residual = rounding.residuals.view(TOTAL, start, stop)

        def total(out: Array) -> None:
            write(out)
            rounding.apply(out, residual)

        return total

    def parts(self, bucket: int) -> Sequence[Part]:
        """Return what this rank updates in a bucket."""
        return self._buckets[bucket].parts

    def cell_gather(self, starts: Sequence[int], columns: int) -> RowDoubling:
        """Return what gathers rows of values by recursive doubling."""
        place, buckets = self._place, self._job.bounds
        owned = [each for bounds in buckets for each in self.owned(bounds, place.rank)]
        plans = [self._plans(bounds) for bounds in buckets]
        return RowDoubling(place, plans, owned, starts, columns, ROWS_TAG)

    # ------------------------------------------------------------------------------------------------------ a step

    def gather(self, bucket: int, *, spin: bool) -> None:
        """Halve, round by round."""
        current = self._buckets[bucket]
        for step in current.before:
            step()
        for transfer, steps in current.rounds:
            transfer.start()
            transfer.wait(spin=spin)
            for step in steps:
                step()

    def send(self, bucket: int, *, spin: bool) -> None:
        """Double, round by round; the last bucket waits for the flags."""
        if bucket < len(self._buckets) - 1:
            self._buckets[bucket].doubling.run(spin=spin)

    def complete(self, ok: bool, *, spin: bool) -> None:
        """Return the last bucket, with the flags."""
        self._flag[0] = not ok
        self._buckets[-1].doubling.run(spin=spin)
        self._raised[self._place.memory.rank] = self._flag[0]

    def all_ok(self) -> bool:
        """Return whether every rank is ok."""
        return not self._raised.any()

"""Recursive doubling between hosts: the rounds of halving, reversed, return what became of the sums."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from hpcnn.comm.exchange.buffers import BLOCK
from hpcnn.comm.exchange.formats import Format
from hpcnn.comm.exchange.halving import Round, Share, rank_of_lane
from hpcnn.comm.exchange.merging import Step
from hpcnn.comm.exchange.packets import Packet
from hpcnn.comm.exchange.transport import Message, Place, Transfer
from hpcnn.comm.protocol import Array

Prepare = Callable[[Array, Packet], Iterable[Step]]
"""Returns what copies entries into a message, or out of it."""


class Doubling:
    """The messages that bring a bucket to all hosts.

    Args:
        place: this rank among the others.
        vector: has the entries of this rank's last pieces, and takes those of the other hosts.
        plans: for each lane of this rank, the rounds that halved it.
        form: the format in which the entries travel, if not their own.
        flag: shape (1,), not zero where something is wrong; takes the flags of the others, which travel with the
            entries. None: no flags travel.
        tag: of the messages.
    """

    def __init__(
        self,
        place: Place,
        vector: Array,
        plans: Mapping[int, Sequence[Round]],
        form: Format | None,
        flag: Array | None,
        tag: int,
    ) -> None:
        self._place, self._vector, self._form, self._flag = place, vector, form, flag
        numbers = range(len(next(iter(plans.values()))))
        self._rounds = [
            self._round([(lane, plan[number]) for lane, plan in plans.items()], tag) for number in reversed(numbers)
        ]

    def _round(self, lanes: Sequence[tuple[int, Round]], tag: int) -> tuple[list[Step], Transfer, list[Step]]:
        """Return what packs the messages of one round, the messages, and what unpacks them."""
        before: list[Step] = []
        after: list[Step] = []
        sends = [self._message(lane, share, before, self._packing) for lane, plan in lanes for share in plan.receives]
        receives = [self._message(lane, share, after, self._unpacking) for lane, plan in lanes for share in plan.sends]
        return before, self._place.links.transfer(sends, receives, tag), after

    def _message(self, lane: int, share: Share, steps: list[Step], prepare: Prepare) -> Message:
        rank = rank_of_lane(self._place.topology, share.host, lane)
        entries = self._vector[share.start : share.stop]
        if self._form is None and self._flag is None:
            return rank, entries
        kind = entries.dtype if self._form is None else self._form.empty(0).dtype
        packet = Packet(entries.size, [kind], flag=self._flag is not None)
        steps += prepare(entries, packet)
        return rank, packet.data

    def _packing(self, entries: Array, packet: Packet) -> Iterator[Step]:
        if self._flag is not None:
            yield partial(np.copyto, packet.flag, self._flag)
        (wire,) = packet.vectors
        for block in _blocks(entries.size):
            if self._form is None:
                yield partial(np.copyto, wire[block], entries[block])
            else:
                yield partial(self._form.encode, entries[block], wire[block])

    def _unpacking(self, entries: Array, packet: Packet) -> Iterator[Step]:
        if self._flag is not None:
            yield partial(_raise_flag, self._flag, packet.flag)
        (wire,) = packet.vectors
        for block in _blocks(entries.size):
            if self._form is None:
                yield partial(np.copyto, entries[block], wire[block])
            else:
                yield partial(self._form.decode, wire[block], entries[block])

    def run(self, *, spin: bool) -> None:
        """Bring the entries to all hosts."""
        for before, transfer, after in self._rounds:
            for step in before:
                step()
            transfer.start()
            transfer.wait(spin=spin)
            for step in after:
                step()


def _blocks(size: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, size, BLOCK))


def _raise_flag(flag: Array, arrived: Array) -> None:
    np.bitwise_or(flag, arrived, out=flag)

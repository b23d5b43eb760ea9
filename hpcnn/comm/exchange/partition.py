"""Values and vectors that each rank has for its own partitions: gathered from all ranks, or dealt out in chunks."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.comm.exchange.plan import Range, overlap
from hpcnn.comm.exchange.route import STATE_TAG, RowGather
from hpcnn.comm.exchange.transport import Message, Place, Transfer
from hpcnn.comm.protocol import Array
from hpcnn.core.dealing import Chunk, Dealing, Takers

Piece = tuple[int, Array]
"""Where a partition begins, and its entries."""


@dataclass(frozen=True)
class _Owners:
    """The partitions of all ranks in the order of the vector."""

    starts: Sequence[int]
    stops: Sequence[int]
    ranks: Sequence[int]
    order: Sequence[int]
    """The ranks by the place of their first partition."""


class Partitions:
    """The partitions of all ranks.

    Args:
        place: this rank among the others.
        length: entries of the vector.
        owned: returns the partitions of a rank, none of them empty, in the order of its parts.
    """

    def __init__(self, place: Place, length: int, owned: Callable[[int], Sequence[Range]]) -> None:
        self._place, self._length, self._owned = place, length, owned
        self._beside_root = [rank for rank in place.topology.hosts[place.topology.host_of(0)] if rank]

    def deal(self, own: Array, dealing: Dealing) -> Iterator[Chunk]:
        """Yield the chunks that this rank takes of the vector of which `own` holds its partitions; see `deal_pieces`.

        Collective.
        """
        partitions = self._owned(self._place.rank)
        ends = accumulate((stop - start for start, stop in partitions), initial=0)
        arrays = [own[before:end] for before, end in pairwise(ends)]
        pieces = [(start, array) for (start, _), array in zip(partitions, arrays, strict=True)]
        return self.deal_pieces(pieces, own.dtype, dealing)

    def deal_pieces(self, own: Sequence[Piece], dtype: DTypeLike, dealing: Dealing) -> Iterator[Chunk]:
        """Yield the chunks that this rank takes: first those that it has, then those that others have a part of.

        Collective: every rank takes all of its own. `own` are this rank's partitions, which do not change meanwhile.
        While a chunk is used the next is on its way. Ranks wait without spinning, since others need the cores to hash;
        but for rank 0 where it takes everything.
        """
        place, own = self._place, sorted(own, key=lambda piece: piece[0])
        takers = Takers(dealing, self._length, self._owners.order, self._beside_root)
        sending = place.links.transfer(list(self._sends(own, takers)), [], STATE_TAG)
        sending.start()
        incomplete = []
        for number in takers.taken_by(place.rank):
            entries = _within_one(own, takers.wanted(number))
            if entries is None:
                incomplete.append(number)
            else:
                yield takers.chunk(number, entries)
        under_way = self._receive(own, takers.wanted(incomplete[0]), dtype) if incomplete else None
        for number, following in zip(incomplete, [*incomplete[1:], None], strict=False):
            assert under_way is not None
            array, transfer = under_way
            if following is not None:
                under_way = self._receive(own, takers.wanted(following), dtype)
            _finish(transfer, spin=not dealing.shared)
            yield takers.chunk(number, array)
            del array
        _finish(sending, spin=False)

    @cached_property
    def _owners(self) -> _Owners:
        everyone = [self._owned(rank) for rank in range(len(self._place.topology.order))]
        pieces = sorted((start, stop, rank) for rank, owned in enumerate(everyone) for start, stop in owned)
        columns = np.array(pieces, np.int64).reshape(-1, 3).T
        order = sorted(range(len(everyone)), key=lambda rank: everyone[rank][0][0] if everyone[rank] else self._length)
        return _Owners(columns[0], columns[1], columns[2], order)

    def _sends(self, own: Sequence[Piece], takers: Takers) -> Iterator[Message]:
        """Yield what other ranks want of this rank's entries, chunk by chunk."""
        for start, entries in own:
            for number in takers.wanting(start, start + entries.size):
                taker, part = takers.of(number), overlap(takers.wanted(number), (start, start + entries.size))
                if part and taker != self._place.rank:
                    yield taker, entries[part[0] - start : part[1] - start]

    def _receive(self, own: Sequence[Piece], bounds: Range, dtype: DTypeLike) -> tuple[Array, Transfer]:
        """Return some entries, of which the own ones are there already, and the transfer that brings the others."""
        first, owners = bounds[0], self._owners
        array = np.empty(bounds[1] - first, dtype)
        for start, entries in own:
            part = overlap(bounds, (start, start + entries.size))
            if part:
                array[part[0] - first : part[1] - first] = entries[part[0] - start : part[1] - start]
        receives: list[Message] = []
        for place in range(bisect_right(owners.stops, first), bisect_left(owners.starts, bounds[1])):
            part = overlap(bounds, (int(owners.starts[place]), int(owners.stops[place])))
            if part and owners.ranks[place] != self._place.rank:
                receives.append((int(owners.ranks[place]), array[part[0] - first : part[1] - first]))
        transfer = self._place.links.transfer([], receives, STATE_TAG)
        transfer.start()
        return array, transfer


def _within_one(own: Sequence[Piece], bounds: Range) -> Array | None:
    """Return some entries if they lie within one piece."""
    number = bisect_right(own, bounds[0], key=lambda piece: piece[0]) - 1
    if number < 0:
        return None
    start, entries = own[number]
    return entries[bounds[0] - start : bounds[1] - start] if bounds[1] <= start + entries.size else None


def _finish(transfer: Transfer, *, spin: bool) -> None:
    transfer.wait(spin=spin)
    transfer.free()


def allgather_rows(place: Place, owned: Callable[[int], Sequence[Range]], starts: Sequence[int]) -> RowGather:
    """Return what gathers rows of values for the cells that begin at `starts`, each from the rank that owns it."""
    cells = [
        [cell for start, stop in owned(rank) for cell in range(bisect_left(starts, start), bisect_left(starts, stop))]
        for rank in range(len(place.topology.order))
    ]
    order, counts = [cell for own in cells for cell in own], [len(own) for own in cells]

    def gather(values: Array, *, spin: bool) -> Array:
        columns = values.shape[1]
        everyone = place.links.allgather(values.reshape(-1), [count * columns for count in counts])
        result = np.empty((len(order), columns))
        result[order] = everyone.reshape(-1, columns)
        return result

    return gather

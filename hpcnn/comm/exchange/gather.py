"""Gather a vector that is spread over ranks on rank 0, block by block: never a second copy of the whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.comm.exchange.plan import Range, overlap
from hpcnn.comm.exchange.transport import Message, Place, Transfer
from hpcnn.comm.protocol import Array


def gather_blocks(
    place: Place,
    length: int,
    dtype: DTypeLike,
    block: int,
    own: Sequence[tuple[int, Array]],
    theirs: Mapping[int, Sequence[Range]],
    tag: int,
) -> Iterator[Array | None]:
    """Yield the vector in blocks, at least one, on rank 0; None as many times elsewhere. Collective.

    While rank 0 uses a block the next is on its way. Other ranks wait without spinning: rank 0 may need their cores.

    Args:
        place: this rank among the others.
        length: entries of the vector.
        dtype: their type.
        block: entries of a block; the last may have fewer.
        own: where each partition of this rank begins, and its entries.
        theirs: for each other rank, where its partitions begin and end, in the order in which it has them.
        tag: for messages.
    """
    blocks = [(start, min(start + block, length)) for start in range(0, max(length, 1), block)]
    if place.rank != 0:
        for bounds in blocks:
            transfer = place.links.transfer([(0, entries) for _, entries in _within(bounds, own)], [], tag)
            transfer.start()
            _finish(transfer, spin=False)
            yield None
        return
    under_way = _begin(place, blocks[0], dtype, own, theirs, tag)
    for following in [*blocks[1:], None]:
        array, transfer = under_way
        if following is not None:
            under_way = _begin(place, following, dtype, own, theirs, tag)
        _finish(transfer, spin=True)
        yield array


def _begin(
    place: Place,
    bounds: Range,
    dtype: DTypeLike,
    own: Sequence[tuple[int, Array]],
    theirs: Mapping[int, Sequence[Range]],
    tag: int,
) -> tuple[Array, Transfer]:
    """Return a block, in which the own entries are already, and the transfer that brings the others."""
    first = bounds[0]
    array = np.empty(bounds[1] - first, dtype)
    for start, entries in _within(bounds, own):
        array[start - first : start - first + entries.size] = entries
    shared = ((rank, overlap(bounds, partition)) for rank, partitions in theirs.items() for partition in partitions)
    receives: list[Message] = [(rank, array[part[0] - first : part[1] - first]) for rank, part in shared if part]
    transfer = place.links.transfer([], receives, tag)
    transfer.start()
    return array, transfer


def _within(bounds: Range, partitions: Sequence[tuple[int, Array]]) -> Iterator[tuple[int, Array]]:
    """Yield where what lies within `bounds` of each partition begins, and those entries."""
    for start, entries in partitions:
        part = overlap(bounds, (start, start + entries.size))
        if part:
            yield part[0], entries[part[0] - start : part[1] - start]


def _finish(transfer: Transfer, *, spin: bool) -> None:
    transfer.wait(spin=spin)
    transfer.free()

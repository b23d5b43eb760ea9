"""Values and vectors that each rank has for its own partitions, gathered from all of them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise

import numpy as np

from hpcnn.comm.exchange.gather import gather_blocks
from hpcnn.comm.exchange.plan import Range
from hpcnn.comm.exchange.route import RowGather
from hpcnn.comm.exchange.transport import Place
from hpcnn.comm.protocol import Array


class Partitions:
    """The partitions of all ranks.

    Args:
        place: this rank among the others.
        length: entries of the vector.
        owned: returns the partitions of a rank, none of them empty, in the order of its parts.
    """

    def __init__(self, place: Place, length: int, owned: Callable[[int], Sequence[Range]]) -> None:
        self._place, self._length, self._owned = place, length, owned

    def gather(self, own: Array, block: int, tag: int) -> Iterator[Array | None]:
        """Yield the vector of which `own` holds this rank's partitions in order; see `gather_blocks`. Collective."""
        others = range(1, len(self._place.topology.order)) if self._place.rank == 0 else ()
        theirs = {rank: self._owned(rank) for rank in others}
        partitions = self._owned(self._place.rank)
        ends = list(accumulate(stop - start for start, stop in partitions))
        mine = [own[before:end] for before, end in pairwise([0, *ends])]
        starts = [start for start, _ in partitions]
        pairs = list(zip(starts, mine, strict=True))
        return gather_blocks(self._place, self._length, own.dtype, block, pairs, theirs, tag)


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

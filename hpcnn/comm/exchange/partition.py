"""Values and vectors that each rank has for its own partitions, gathered from all of them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise

import numpy as np

from hpcnn.comm.exchange.gather import gather_blocks
from hpcnn.comm.exchange.plan import Range
from hpcnn.comm.exchange.transport import Place
from hpcnn.comm.protocol import Array, GatherCells


class Partitions:
    """The partitions of all ranks.

    Args:
        place: this rank among the others.
        length: entries of the vector.
        owned: returns the partitions of a rank, none of them empty, in the order of its parts.
    """

    def __init__(self, place: Place, length: int, owned: Callable[[int], Sequence[Range]]) -> None:
        self._place, self._length, self._owned = place, length, owned

    def cell_gather(self, starts: Sequence[int]) -> GatherCells:
        """Return what gathers rows of values for the cells that begin at `starts`; see `Exchange`."""
        cells = [
            [
                cell
                for start, stop in self._owned(rank)
                for cell in range(bisect_left(starts, start), bisect_left(starts, stop))
            ]
            for rank in range(len(self._place.topology.order))
        ]
        order, allgather = [cell for own in cells for cell in own], self._place.links.allgather

        def gather(values: Array) -> Array:
            columns = values.shape[1]
            everyone = allgather(values.reshape(-1), [len(own) * columns for own in cells]).reshape(-1, columns)
            result = np.empty_like(everyone)
            result[order] = everyone
            return result

        return gather

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

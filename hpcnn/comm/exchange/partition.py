"""Values and vectors that each rank has for its own partitions, gathered from all of them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

import numpy as np

from hpcnn.comm.exchange.gather import gather_blocks
from hpcnn.comm.exchange.plan import Range, cut
from hpcnn.comm.exchange.transport import Place
from hpcnn.comm.protocol import Array, GatherCells


class Partitions:
    """The partitions of all ranks, one per bucket and rank.

    Args:
        place: this rank among the others.
        bounds: the buckets.
        alignment: partitions are cut at multiples of this many entries.
    """

    def __init__(self, place: Place, bounds: Sequence[Range], alignment: int) -> None:
        self._place = place
        self._length = bounds[0][1]  # they come from the end of the vector to its start
        order = place.topology.order
        by_bucket = [cut(each, len(order), alignment) for each in bounds]
        self._of_rank = {
            rank: [
                partitions[position] for partitions in by_bucket if partitions[position][0] < partitions[position][1]
            ]
            for position, rank in enumerate(order)
        }

    def cell_gather(self, starts: Sequence[int]) -> GatherCells:
        """Return what gathers rows of values for the cells that begin at `starts`; see `Exchange`."""
        cells = [
            [
                cell
                for start, stop in partitions
                for cell in range(bisect_left(starts, start), bisect_left(starts, stop))
            ]
            for _, partitions in sorted(self._of_rank.items())
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
        theirs = dict(self._of_rank)
        partitions = theirs.pop(self._place.rank)
        ends = list(accumulate(stop - start for start, stop in partitions))
        mine = [own[before:end] for before, end in pairwise([0, *ends])]
        starts = [start for start, _ in partitions]
        pairs = list(zip(starts, mine, strict=True))
        return gather_blocks(self._place, self._length, own.dtype, block, pairs, theirs, tag)

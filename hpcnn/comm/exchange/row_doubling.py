"""Rows of values for cells of the vector, gathered from the ranks that update them by recursive doubling.

As for norms, which every rank adds up alike. Each rank sends one message, at most two, in each of log2(hosts) rounds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcnn.comm.exchange.halving import Round, Share, rank_of_lane
from hpcnn.comm.exchange.plan import Range
from hpcnn.comm.exchange.transport import Place, Transfer
from hpcnn.comm.protocol import Array

Cells = NDArray[np.intp]
"""Numbers of cells."""


@dataclass(frozen=True)
class _Round:
    """The rows of some cells as messages."""

    sends: Sequence[tuple[Cells, Array]]
    receives: Sequence[tuple[Cells, Array]]
    transfer: Transfer


class RowDoubling:
    """The rows of all cells, in memory that the ranks of a host share. Collective among the ranks of the host.

    Args:
        place: this rank among the others.
        plans: for each bucket, the rounds that halved it, by the lanes of this rank.
        owned: what this rank updates, in order.
        starts: where the cells begin in the vector. Each lies within what one rank updates.
        columns: values of a row.
        tag: of the messages.
    """

    def __init__(
        self,
        place: Place,
        plans: Sequence[Mapping[int, Sequence[Round]]],
        owned: Sequence[Range],
        starts: Sequence[int],
        columns: int,
        tag: int,
    ) -> None:
        self._place, self._plans, self._starts, self._columns, self._tag = place, plans, starts, columns, tag
        self._own = self._cells(owned)
        size = len(starts) * columns
        memory = place.memory.allocate_common(2 * size * 8)[: 2 * size * 8].view(np.float64)
        # They take turns, so that one is read while others already write the next.
        self._tables = memory.reshape(2, len(starts), columns)
        self._turn = 0
        numbers = range(len(next(iter(plans[0].values()))))
        self._rounds = [self._round(number) for number in reversed(numbers)]

    def _cells(self, ranges: Iterable[Range]) -> Cells:
        cells = [range(bisect_left(self._starts, lo), bisect_left(self._starts, hi)) for lo, hi in ranges]
        return np.fromiter((cell for each in cells for cell in each), np.intp)

    def _round(self, number: int) -> _Round:
        """Return a round: what halving received in that of this number returns to where it came from."""
        sent: defaultdict[int, list[Share]] = defaultdict(list)
        received: defaultdict[int, list[Share]] = defaultdict(list)
        for lanes in self._plans:
            for lane, rounds in lanes.items():
                for by_rank, shares in ((sent, rounds[number].receives), (received, rounds[number].sends)):
                    for share in shares:
                        by_rank[rank_of_lane(self._place.topology, share.host, lane)].append(share)
        sends, receives = ([(rank, *self._message(each)) for rank, each in to.items()] for to in (sent, received))
        transfer = self._place.links.transfer(
            [(rank, message) for rank, _, message in sends],
            [(rank, message) for rank, _, message in receives],
            self._tag,
        )
        return _Round([each[1:] for each in sends], [each[1:] for each in receives], transfer)

    def _message(self, shares: Sequence[Share]) -> tuple[Cells, Array]:
        cells = self._cells((share.start, share.stop) for share in shares)
        return cells, np.empty((len(cells), self._columns))

    def __call__(self, values: Array, *, spin: bool) -> Array:
        """Return the rows of all cells; `values` are those of the own ones."""
        rows, self._turn = self._tables[self._turn], 1 - self._turn
        rows[self._own] = values
        for each in self._rounds:
            for cells, message in each.sends:
                np.take(rows, cells, axis=0, out=message)
            each.transfer.start()
            each.transfer.wait(spin=spin)
            for cells, message in each.receives:
                rows[cells] = message
        self._place.memory.barrier(spin=spin)
        result: Array = rows.copy()
        return result

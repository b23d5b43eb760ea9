"""How sums reach the ranks that update by them, and how the results return: the interface of the algorithms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from hpcnn.comm.exchange.buffers import BufferLayout
from hpcnn.comm.exchange.plan import Range
from hpcnn.comm.exchange.reduction import Sum
from hpcnn.comm.exchange.transport import Place
from hpcnn.comm.protocol import Array, Compression, Contribution, Residuals
from hpcnn.core.tree import Subtree

PAGE = 4096
STATE_TAG, STATS_TAG, FLAGS_TAG, ROWS_TAG, FIRST_TAG = range(5)
"""Of messages: for `Partitions.deal`, for stats, flags and rows that travel alone, and for the first bucket."""

Part = tuple[slice, Sum]
"""Entries that a rank updates, and what writes their sums."""


@dataclass(frozen=True)
class HostSlots:
    """What the ranks of one host contribute, each slot visible to all of them."""

    place: Place
    shards: int
    own: Sequence[Contribution]
    """This rank's slots."""
    subtrees: Sequence[Subtree]
    """Those of all slots of the host, left to right."""
    vectors: Sequence[Array]
    stats: Sequence[Array]

    @classmethod
    def allocate(
        cls, place: Place, shards: int, length: int, kind: np.dtype[Any], stats_length: int, groups: int
    ) -> HostSlots:
        """Allocate this rank's slots, and find its neighbours'. Collective among the ranks of the host."""
        ranks = place.topology.hosts[place.host]
        subtrees = [place.topology.rank_subtrees(shards, rank, groups) for rank in ranks]
        layouts = [BufferLayout(len(own), length, kind, stats_length, alignment=PAGE) for own in subtrees]
        segments = place.memory.allocate(layouts[place.memory.rank].size)
        everyone = [
            layout.contributions(segment, own) for layout, segment, own in zip(layouts, segments, subtrees, strict=True)
        ]
        local = [part for contributions in everyone for part in contributions]
        return cls(
            place,
            shards,
            everyone[place.memory.rank],
            [part.subtree for part in local],
            [part.vector for part in local],
            [part.stats for part in local],
        )


@dataclass(frozen=True)
class Job:
    """What an exchange has to do, beside its slots."""

    vector: Array
    """One copy per host, which becomes the same on all hosts."""
    bounds: Sequence[Range]
    """The buckets, from the end of the vector to its start."""
    alignment: int
    """Partitions are cut at multiples of this many entries."""
    stats_length: int
    compression: Compression | None
    gives_sums: bool
    """Whether the results are the sums themselves."""


class RowGather(Protocol):
    """Gathers rows of values for cells of the vector."""

    def __call__(self, values: Array, *, spin: bool) -> Array:
        """Return the rows of all cells, `values` being those of this rank's parts. Collective."""
        ...


class Route(Protocol):
    """An algorithm, prepared for one rank.

    A step is `gather` and `send` for each bucket in order, and `complete`. The ranks of a host meet before each
    `gather` and after `complete`.
    """

    stats: Array
    """The sum of the stats, after the first `gather`."""
    residuals: Residuals | None

    def parts(self, bucket: int) -> Iterable[Part]:
        """Return what this rank updates in a bucket, each part with its sum: valid between `gather` and `send`."""
        ...

    def owned(self, bounds: Range, rank: int) -> Sequence[Range]:
        """Return what `rank` updates in the bucket of these bounds, in the order of its parts."""
        ...

    def cell_gather(self, starts: Sequence[int], columns: int) -> RowGather:
        """Return what gathers rows of values for the cells that begin at `starts`. Collective."""
        ...

    def gather(self, bucket: int, *, spin: bool) -> None:
        """Bring everything here that this rank's parts of a bucket are the sums of."""
        ...

    def send(self, bucket: int, *, spin: bool) -> None:
        """Send this rank's parts of a bucket on their way to all hosts."""
        ...

    def complete(self, ok: bool, *, spin: bool) -> None:
        """Return once all of the vector is there, and every flag `ok`."""
        ...

    def all_ok(self) -> bool:
        """Return whether all flags hold, after the ranks of the host have met."""
        ...

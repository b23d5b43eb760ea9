"""The exact exchange of gradients: slices summed in the host's memory, and between hosts each byte once each way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.comm.exchange.direct_route import DirectRoute
from hpcnn.comm.exchange.exchange_thread import ExchangeThread
from hpcnn.comm.exchange.halving_route import HalvingRoute
from hpcnn.comm.exchange.partition import Partitions
from hpcnn.comm.exchange.plan import Range, buckets
from hpcnn.comm.exchange.reduction import Sum
from hpcnn.comm.exchange.route import HostSlots, Job, Route
from hpcnn.comm.exchange.transport import Place
from hpcnn.comm.protocol import Array, Compression, Contribution, GatherCells, SpreadState, UpdateStep
from hpcnn.core.activity import OPTIMIZER, OTHER, REDUCE, WAIT, Activity
from hpcnn.system.memory import ALIGNMENT


@dataclass(frozen=True)
class _Bucket:
    """One bucket of an exchange."""

    number: int
    start: int
    parts: range
    """The numbers of the parts of this rank's partition."""
    exchange: TreeExchange

    def send(self) -> None:
        """Send this rank's partition to the other hosts."""
        self.exchange.send(self.number)


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
        halving: between hosts, halve and double in rounds in place of sending to every host at once.
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
        halving: bool = False,
    ) -> None:
        kind = np.dtype(dtype)
        line = ALIGNMENT // kind.itemsize
        alignment = -(-alignment // line) * line
        self._place = place
        bounds = buckets(length, bucket, alignment)
        slots = HostSlots.allocate(place, shards, length, kind, stats_length, compression.groups if compression else 1)
        self.contributions: Sequence[Contribution] = slots.own
        gives_sums = target is None
        if target is None:
            target = place.memory.allocate_common(length * kind.itemsize).view(kind)
        self.vector = target[:length]
        job = Job(self.vector, bounds, alignment, stats_length, compression, gives_sums)
        make = HalvingRoute if halving and len(place.topology.hosts) > 1 else DirectRoute
        self._route: Route = make(slots, job)
        self.spread: SpreadState | None = Partitions(place, length, lambda rank: _owned(self._route, bounds, rank))
        self.residuals, self.stats = self._route.residuals, self._route.stats
        self._own_parts: list[slice] = []
        self.parts: Sequence[slice] = self._own_parts
        self.sums: list[Sum] = []
        self._buckets = [self._bucket(number, start) for number, (start, _) in enumerate(bounds)]
        self._thread = ExchangeThread(threaded=len(bounds) > 1)
        self.ready: Callable[[int], None] = self._thread.ready
        self.met = False
        self.activity = Activity()

    def _bucket(self, number: int, start: int) -> _Bucket:
        first = len(self._own_parts)
        for part, total in self._route.parts(number):
            self._own_parts.append(part)
            self.sums.append(total)
        return _Bucket(number, start, range(first, len(self._own_parts)), self)

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
        for bucket in self._buckets:
            if self._thread.threaded:
                self._enter(OTHER)
                self._thread.wait_for(bucket.start)
            if self.met:
                self.met = False
                self._enter(REDUCE)
            else:
                self._meet()
            self._route.gather(bucket.number, spin=self._spin)
            yield bucket

    def send(self, bucket: int) -> None:
        """Send this rank's partition of the bucket of that number."""
        self._enter(REDUCE)
        self._route.send(bucket, spin=self._spin)

    def complete(self, ok: bool) -> bool:
        """Wait for the other ranks' partitions; return whether `ok` holds on every rank."""
        self._route.complete(ok, spin=self._spin)
        self._meet()
        if self._thread.threaded:
            self._enter(OTHER)
        return self._route.all_ok()

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

    def cell_gather(self, starts: Sequence[int], columns: int) -> GatherCells:
        """Return what gathers rows of values for the cells that begin at `starts`."""
        gather = self._route.cell_gather(starts, columns)

        def waiting(values: Array) -> Array:
            self._enter(WAIT)
            result = gather(values, spin=self._spin)
            self._enter(OPTIMIZER)
            return result

        return waiting


def _owned(route: Route, bounds: Sequence[Range], rank: int) -> list[Range]:
    return [each for bucket in bounds for each in route.owned(bucket, rank)]

"""What a run records in ``time.jsonl`` for the model of its steps: its exchange, and the times of its ranks."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
import numpy as np

from hpcnn.comm.network import Network
from hpcnn.comm.protocol import Array, Communicator
from hpcnn.core.activity import RECOVER, SET_UP
from hpcnn.core.conversion import convert
from hpcnn.runs.prediction.model import Sums
from hpcnn.training.replica import Replica

_MOST_ENTRIES = 2**22
"""Of the vector whose addition is timed: more than caches hold, and a few milliseconds."""
_REPEATS = 4
_MOST_BATCH_SUMS = 10_000
"""A record with more is damaged."""


@dataclass(frozen=True)
class ExchangeRecord:
    """What of a run decides the time of its exchange."""

    batch: int
    """Samples of a step, of all ranks."""
    sums: Sums
    network: Network | None
    """Between nodes; None: there is one node, or it was not measured."""
    memory_byte_s: float
    """Of each byte that the ranks of a node read or write, all at once, when they add gradients."""

    @classmethod
    def read(cls, value: object) -> ExchangeRecord | None:
        """Return what a line of ``time.jsonl`` says; None if that is no record.

        >>> ExchangeRecord.read({"batch": "many"})
        """
        try:
            found = convert(value, cls)
        except msgspec.ValidationError:
            return None
        sums, network = found.sums, found.network
        times = [found.memory_byte_s, *(asdict(network).values() if network else ())]
        counts = [found.batch, sums.length, *sums.batch_sums]
        known = all(0 <= each < math.inf for each in times) and all(0 < each < 2**63 for each in counts)
        few = 0 <= sums.stats_length < 2**31 and len(sums.batch_sums) <= _MOST_BATCH_SUMS
        return found if known and few else None

    @property
    def plain(self) -> dict[str, Any]:
        """The record as values of JSON."""
        return asdict(self)


Measure = Callable[[Communicator, Replica, Sequence[str]], ExchangeRecord]
"""Takes the host of each rank, as just gathered: so all begin at the same time. Collective."""


def measuring(batch: int, sums: Sums) -> Measure:
    """Return what makes the record of a run whenever it begins on some ranks."""

    def measure(comm: Communicator, replica: Replica, hosts: Sequence[str]) -> ExchangeRecord:
        vector = replica.updater.exchange.contributions[0].vector  # between steps it holds nothing
        nodes = Counter(hosts)
        byte_s = _addition_byte_s(comm, vector[:_MOST_ENTRIES]) / max(nodes.values())
        return ExchangeRecord(batch, sums, comm.network if comm.hosts == len(nodes) else None, byte_s)

    return measure


def _addition_byte_s(comm: Communicator, vector: Array) -> float:
    """Return what a byte takes a rank, while all add a vector to itself at once. Collective."""
    vector[...] = 0
    seconds = math.inf
    for _ in range(_REPEATS):
        begin = time.perf_counter()
        np.add(vector, vector, out=vector)
        seconds = min(seconds, time.perf_counter() - begin)
    return comm.allreduce(seconds, max) / (2 * vector.nbytes)


class RunTimes:
    """Seconds of each rank by phase over some steps, from the lines of ``time.jsonl`` in order.

    Only those since the ranks became what they are count, and of these the ones in which nothing was set up or
    recovered, if there are any: the first steps of a run take longer.
    """

    def __init__(self) -> None:
        self._begin(())

    def _begin(self, hosts: Sequence[str]) -> None:
        self.hosts = tuple(hosts)
        """Of each rank."""
        self.record: ExchangeRecord | None = None
        self._first, self._later = _Sum(), _Sum()

    def add(
        self,
        hosts: Sequence[str],
        seconds: Mapping[str, Sequence[float]],
        steps: int,
        record: ExchangeRecord | None = None,
    ) -> None:
        """Add a line, with the record if it has one."""
        if tuple(hosts) != self.hosts:
            self._begin(hosts)
        self.record = record or self.record
        starts = any(any(seconds.get(phase, ())) for phase in (SET_UP, RECOVER))
        (self._first if starts else self._later).add(seconds, steps)

    @property
    def steps(self) -> int:
        """How many steps the seconds are of."""
        return self._counted.steps

    def of(self, *phases: str) -> list[float]:
        """Return the seconds of each rank in some phases together."""
        known = [self._counted.seconds.get(phase, [0.0] * len(self.hosts)) for phase in phases]
        return [sum(of_rank) for of_rank in zip(*known, strict=True)]

    @property
    def _counted(self) -> _Sum:
        return self._later if self._later.steps else self._first


class _Sum:
    def __init__(self) -> None:
        self.steps = 0
        self.seconds: dict[str, list[float]] = {}

    def add(self, seconds: Mapping[str, Sequence[float]], steps: int) -> None:
        if steps <= 0:
            return
        self.steps += steps
        for phase, values in seconds.items():
            before = self.seconds.get(phase, [0.0] * len(values))
            self.seconds[phase] = [a + b for a, b in zip(before, values, strict=True)]

"""What exchanges have in common that give every rank the whole sum: there is one bucket, and every rank updates it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hpcnn.comm.exchange.buffers import BLOCK
from hpcnn.comm.protocol import Array, Contribution, GatherCells, Residuals, SpreadState, UpdateStep
from hpcnn.core.activity import OPTIMIZER, Activity


@dataclass(frozen=True)
class WholeVector:
    """The one bucket."""

    parts: range

    def send(self) -> None:
        """Do nothing: every rank makes the same of it."""


class ReplicatedBase(ABC):
    """Base of a `ReplicatedExchange`: every rank updates everything, after all is summed.

    Args:
        contributions: this rank's buffers.
        vector: takes the sum.
        stats: takes the sum of the stats.
    """

    keeps_sums = True
    overlap: bool = False
    met: bool = False

    def __init__(self, contributions: Sequence[Contribution], vector: Array, stats: Array) -> None:
        self.contributions, self.vector, self.stats = contributions, vector, stats
        self.activity = Activity()
        self.residuals: Residuals | None = None
        self.spread: SpreadState | None = None
        self.ready: Callable[[int], None] = _nothing
        length = vector.size
        self.parts: Sequence[slice] = [slice(start, min(start + BLOCK, length)) for start in range(0, length, BLOCK)]
        self._buckets = (WholeVector(range(len(self.parts))),)

    @abstractmethod
    def allreduce(self) -> None:
        """Sum all contributions of all ranks. Collective."""

    def start(self, step: UpdateStep) -> None:
        """Begin a step."""
        self._step = step

    def finish(self) -> bool:
        """Sum everything, and do the step."""
        self.allreduce()
        return self._step()

    def buckets(self) -> Sequence[WholeVector]:
        """Return the one bucket."""
        self.activity.enter(OPTIMIZER)
        return self._buckets

    def sum_into(self, part: int, out: Array) -> None:
        """Copy the sum of a part."""
        np.copyto(out, self.vector[self.parts[part]])

    def complete(self, ok: bool) -> bool:
        """Return `ok`, which is the same on every rank."""
        return ok

    def cell_gather(self, starts: Sequence[int], columns: int) -> GatherCells:
        """Return what returns its argument: every rank has all cells."""
        return lambda values: values


def _nothing(start: int) -> None:
    """Wait until `finish` to look at the contributions."""

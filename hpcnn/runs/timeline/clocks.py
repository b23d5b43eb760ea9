"""Offsets between the clocks of the ranks, to put their marks on one time axis."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from hpcnn.comm.protocol import Array, Communicator

ROUNDS = 20


@dataclass
class RankClock:
    """The offset of this rank's clock from that of the first rank 0, at several times.

    The clock is `time.perf_counter`, which on Linux is one for all processes of a host.
    """

    at: list[float] = field(default_factory=list)
    """The times of comparison, by this clock."""
    ahead: list[float] = field(default_factory=list)
    error: list[float] = field(default_factory=list)
    """The uncertainty of `ahead`."""

    def compare(self, comm: Communicator) -> None:
        """Compare the clocks of all ranks with that of rank 0. Collective.

        No rank leaves a barrier before all enter it. So each bounds, from both sides, the offset of two clocks that
        are read right before and after it. The tightest bounds count. A thousand ranks take as long as two.
        """
        entered, left = [], []
        for _ in range(ROUNDS):
            entered.append(time.perf_counter())
            comm.barrier()
            left.append(time.perf_counter())
        host, ahead, first_entered, first_left = comm.broadcast((comm.host, self.ahead_at(entered[-1]), entered, left))
        least = max(own - first for own, first in zip(entered, first_left, strict=True))
        most = min(own - first for own, first in zip(left, first_entered, strict=True))
        same = host == comm.host and least <= 0 <= most
        self.at.append(left[-1])
        self.ahead.append(ahead + (0.0 if same else (least + most) / 2))  # this may be another rank 0 than the first
        self.error.append(0.0 if same else (most - least) / 2)

    def ahead_at(self, now: float) -> float:
        """Return the estimated offset at `now`."""
        return float(np.interp(now, self.at, self.ahead)) if self.at else 0.0

    def points(self) -> Array:
        """Return ``(at, ahead, error)`` of each comparison, float64 of shape (n, 3)."""
        return np.array([self.at, self.ahead, self.error]).T.copy()


def on_one_clock(times: Array, points: Array) -> Array:
    """Convert `times` of one rank to the first rank 0's clock, with linear drift between comparisons.

    >>> on_one_clock(np.array([5.0, 7.0]), np.array([[4.0, 1.0, 0.0], [8.0, 1.5, 0.0]]))
    array([3.875, 5.625])
    """
    shifted: Array = times - np.interp(times, points[:, 0], points[:, 1])
    return shifted

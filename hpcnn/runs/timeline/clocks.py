"""How the clocks of the ranks differ, so that what they noted can be put on one clock."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from hpcnn.comm.protocol import Array, Communicator

ROUNDS = 20


@dataclass
class RankClock:
    """What is known of this rank's clock: by how much it was ahead of the first rank 0's, now and then.

    The clock is `time.perf_counter`, which on Linux is one for all processes of a host.
    """

    at: list[float] = field(default_factory=list)
    """When it was compared, by this clock."""
    ahead: list[float] = field(default_factory=list)
    error: list[float] = field(default_factory=list)
    """By how much `ahead` may be wrong."""

    def compare(self, comm: Communicator) -> None:
        """Compare the clocks of all ranks once more, with that of rank 0. Collective.

        Nobody leaves a barrier before everybody has come to it. So each barrier bounds, from both sides, the difference
        of two clocks that are read right before and after it; of several barriers the closest bounds count. All ranks
        take part in the same ones: it takes as long for a thousand ranks as for two.
        """
        came, left = [], []
        for _ in range(ROUNDS):
            came.append(time.perf_counter())
            comm.barrier()
            left.append(time.perf_counter())
        host, ahead, first_came, first_left = comm.broadcast((comm.host, self.ahead_at(came[-1]), came, left))
        least = max(own - first for own, first in zip(came, first_left, strict=True))
        most = min(own - first for own, first in zip(left, first_came, strict=True))
        same = host == comm.host and least <= 0 <= most
        self.at.append(left[-1])
        self.ahead.append(ahead + (0.0 if same else (least + most) / 2))  # rank 0 may not be the first one any more
        self.error.append(0.0 if same else (most - least) / 2)

    def ahead_at(self, now: float) -> float:
        """Return by how much this clock is ahead at `now`, as far as is known."""
        return float(np.interp(now, self.at, self.ahead)) if self.at else 0.0

    def points(self) -> Array:
        """Return ``(at, ahead, error)`` of each comparison, float64 of shape (n, 3)."""
        return np.array([self.at, self.ahead, self.error]).T.copy()


def on_one_clock(times: Array, points: Array) -> Array:
    """Return `times` of one rank by the first rank 0's clock; between comparisons clocks drift evenly.

    >>> on_one_clock(np.array([5.0, 7.0]), np.array([[4.0, 1.0, 0.0], [8.0, 1.5, 0.0]]))
    array([3.875, 5.625])
    """
    shifted: Array = times - np.interp(times, points[:, 0], points[:, 1])
    return shifted

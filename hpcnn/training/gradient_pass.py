"""What fills a rank's contributions to a batch: gradients and stats of its shards, added along the tree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from hpcnn.comm.protocol import Array, Exchange

LoadShards = Callable[[int, int], tuple[Array, Array, Sequence[int]]]
"""``(first, stop) -> (x, y, starts)``: the samples of gradient shards [first, stop) of a batch.

`starts` says which place in the batch each shard's first sample has, and where the last one ends. The next call may
overwrite x and y.
"""
WeightsOf = Callable[[Array], Array | None]
"""``targets -> weight of each sample``, or None: all weigh the same."""


class GradientPass(Protocol):
    """Fills a rank's contributions to a batch."""

    def run(self, step: int, load: LoadShards, flags: tuple[bool, bool], exchange: Exchange) -> None:
        """Compute the rank's shards. `flags`: whether this rank is asked to stop, and to save."""

"""What fills a rank's contributions to a batch: gradients and stats of its shards, added along the tree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from hpcnn.comm.protocol import Array, Exchange


class Shards(NamedTuple):
    """The samples of neighbouring gradient shards of a batch."""

    x: Array
    y: Array
    starts: Sequence[int]
    """The place in the batch of each shard's first sample, and where the last one ends."""
    weights: Array | None = None
    """How much each sample counts, (n,); None: all count 1."""

    def part(self, rows: slice) -> Shards:
        """Return some of the samples, with the same `starts`."""
        weights = None if self.weights is None else self.weights[rows]
        return self._replace(x=self.x[rows], y=self.y[rows], weights=weights)


LoadShards = Callable[[int, int], Shards]
"""``(first, stop) ->`` gradient shards [first, stop) of a batch. The next call may overwrite the arrays."""
WeightsOf = Callable[[Shards], Array | None]
"""``samples -> weight of each in the loss``, (n,), or None: all weigh 1."""
MeasureShard = Callable[[Array, int], None]
"""``(gradient sum of a shard, its samples) -> None``: called before the sum is added to others."""


class GradientPass(Protocol):
    """Fills a rank's contributions to a batch."""

    def run(
        self,
        step: int,
        load: LoadShards,
        flags: tuple[bool, bool],
        exchange: Exchange,
        measure: MeasureShard | None = None,
    ) -> None:
        """Compute the rank's shards.

        `flags`: whether this rank is asked to stop, and to save. `measure` is given the rank's first shard, if that has
        samples.
        """

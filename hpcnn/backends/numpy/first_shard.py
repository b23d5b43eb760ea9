"""The gradient of a rank's first shard alone, which a pass over all of its shards adds to the others at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from hpcnn.comm.protocol import Array, Contribution
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.core.activity import Activity
from hpcnn.training.batch_sums import AddRows
from hpcnn.training.gradient_pass import GradientPass, Shards


class FirstShard:
    """Computes that shard once more, as a batch of its own; for its pass it is what adds rows, see `AddRows`.

    Args:
        like: a contribution of the rank.
        make: returns the pass for such contributions, given what adds rows.
    """

    def __init__(self, like: Contribution, make: Callable[[Sequence[Contribution], AddRows], GradientPass]) -> None:
        self._exchange = SerialCommunicator().exchange(1, like.vector.size, like.vector.dtype, like.stats.size)
        self._pass = make(self._exchange.contributions, self)
        self._own: Shards | None = None
        self._totals: Iterator[Array] = iter(())

    def __call__(self, rows: Array, totals: Array) -> None:
        """Give the next sum over the whole batch that the rank's own pass was given."""
        np.copyto(totals, next(self._totals))

    def gather(self, own: Array, rows: Array, first: int) -> None:
        """Refuse: where a loss compares samples with each other, a shard has no gradient of its own."""
        raise NotImplementedError("gather")

    def gradient(self, step: int, loaded: Shards, totals: Sequence[Array], activity: Activity) -> Array:
        """Return the gradient sum, valid until the next call.

        Args:
            step: updates done before.
            loaded: the shards of the rank.
            totals: the sums over the whole batch that their pass asked for.
            activity: the rank's.
        """
        self._totals = iter(totals)
        samples = self._take(loaded)
        self._exchange.activity = activity
        self._pass.run(step, lambda first, stop: samples, (False, False), self._exchange)
        return self._exchange.contributions[0].vector

    def _take(self, loaded: Shards) -> Shards:
        """Return the first shard in memory that stays where it is, as a pass that is recorded needs it."""
        first = loaded.part(slice(0, loaded.starts[1] - loaded.starts[0]))
        own = self._own
        if own is None or len(own.x) != len(first.x):
            own = first._replace(x=first.x.copy(), y=first.y.copy())
        else:
            np.copyto(own.x, first.x)
            np.copyto(own.y, first.y)
        self._own = own = own._replace(starts=(loaded.starts[0], loaded.starts[1]))
        return own

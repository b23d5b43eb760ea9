"""The exact exchange where every rank needs the whole sum: the owners of the partitions send the sums themselves."""

from __future__ import annotations

from numpy.typing import DTypeLike

from hpcnn.comm.exchange.replicated import ReplicatedBase
from hpcnn.comm.exchange.transport import Place
from hpcnn.comm.exchange.tree_exchange import TreeExchange
from hpcnn.comm.protocol import Compression, UpdateStep
from hpcnn.core.activity import Activity


class TreeAllreduce(ReplicatedBase):
    """A `ReplicatedExchange` by a `TreeExchange`, with one copy of the sums per host.

    Takes the arguments of `TreeExchange` without `target` and `alignment`.
    """

    def __init__(
        self,
        place: Place,
        shards: int,
        length: int,
        dtype: DTypeLike,
        stats_length: int,
        *,
        bucket: int = 0,
        compression: Compression | None = None,
        halving: bool = False,
    ) -> None:
        self._tree = tree = TreeExchange(
            place, shards, length, dtype, stats_length, bucket=bucket, compression=compression, halving=halving
        )
        super().__init__(tree.contributions, tree.vector, tree.stats)
        self.ready, self.residuals = tree.ready, tree.residuals
        self._outs = [tree.vector[part] for part in tree.parts]

    @property
    def activity(self) -> Activity:
        """Told what the exchange is doing."""
        return self._tree.activity

    @activity.setter
    def activity(self, value: Activity) -> None:
        self._tree.activity = value

    @property
    def overlap(self) -> bool:
        """Whether buckets travel while later ones are computed."""
        return self._tree.overlap

    @overlap.setter
    def overlap(self, value: bool) -> None:
        self._tree.overlap = value

    def allreduce(self) -> None:
        """Sum all contributions of all ranks."""
        self._tree.met, self.met = self.met, False
        self._tree.start(self._add)
        self._tree.finish()

    def start(self, step: UpdateStep) -> None:
        """Begin a step, and the sums that it needs."""
        self._step = step
        self._tree.start(self._add)

    def finish(self) -> bool:
        """Complete the sums, and do the step."""
        self._tree.finish()
        return self._step()

    def _add(self) -> bool:
        tree = self._tree
        for bucket in tree.buckets():
            for part in bucket.parts:
                tree.sums[part](self._outs[part])
            bucket.send()
        return tree.complete(True)

"""From the ranks' gradient sums to new parameters: on every rank alike, or by each rank for its own parts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.comm.protocol import Array, Communicator, Compression, Exchange, HostArray, ShardedExchange
from hpcnn.core.activity import OPTIMIZER, REDUCE
from hpcnn.nn.params import ParamLayout
from hpcnn.optim.optimizer import NORM_BLOCK, BoundOptimizer, Optimizer, Plan, blocks_of, norm_of
from hpcnn.optim.transforms import StepInfo
from hpcnn.storage.hashing import CHUNK
from hpcnn.storage.lazy import LazyArray
from hpcnn.system.memory import aligned_empty
from hpcnn.training.penalty import PenaltyGradient
from hpcnn.training.step_stats import COUNT, LOSS


class Updater(ABC):
    """The parameters, their optimizer, and the exchange of gradients that drives it.

    A step is `start`, `ready` as often as one likes while the contributions are filled, and `finish`.
    """

    exchange: Exchange | ShardedExchange

    def __init__(self, store: HostArray, layout: ParamLayout, optimizer: Optimizer, parts: Sequence[slice]) -> None:
        self.store, self.layout, self.optimizer = store, layout, optimizer
        params = store.array[: layout.trainable_size]
        self._bound = BoundOptimizer(optimizer, params, parts, self._load)
        self._penalty = PenaltyGradient(layout, params, parts)
        self._info, self._count = StepInfo(0, 0.0), 0.0

    @abstractmethod
    def start(self, info: StepInfo) -> None:
        """Begin a step: the contributions are about to be filled."""

    @abstractmethod
    def finish(self) -> bool:
        """Sum the gradients and update the parameters; return whether every gradient was finite. Collective.

        Where the sum of the losses is not finite, nothing is updated.
        """

    @abstractmethod
    def _load(self, number: int, out: Array) -> None:
        """Write the gradient sums of the part of that number, with what the penalties add to them."""

    def ready(self, start: int) -> None:
        """Say that the stats, and all contributions' entries from `start` on, are what they are to be."""
        self.exchange.ready(start)

    @abstractmethod
    def optimizer_state(self) -> dict[str, LazyArray]:
        """Return the optimizer's vectors by name."""

    def load_optimizer_state(self, state: Mapping[str, Array]) -> None:
        """Overwrite the optimizer's vectors by whole ones of the same names."""
        self._bound.load_state(state)

    def compression_state(self) -> dict[str, LazyArray]:
        """Return what compression owes by name, empty without it."""
        residuals = self.exchange.residuals
        if residuals is None:
            return {}
        dtype, shape = self.store.array.dtype, (self.layout.trainable_size,)
        block = CHUNK // dtype.itemsize
        return {name: LazyArray(dtype, shape, partial(residuals.gather, name, block)) for name in residuals.names}

    def load_compression_state(self, state: Mapping[str, Array]) -> None:
        """Overwrite what compression owes by whole vectors of the same names."""
        if self.exchange.residuals is not None:
            self.exchange.residuals.load(state)

    def first_bad_gradient(self) -> str | None:
        """Return the name of the parameter whose gradient this rank found not to be finite."""
        place = self._bound.not_finite_at
        return None if place is None else self.layout.name_at(place)


class ReplicatedUpdater(Updater):
    """Every rank has all sums, all parameters and all of the optimizer's state, and does the same as the others."""

    def __init__(self, store: HostArray, layout: ParamLayout, optimizer: Optimizer, exchange: Exchange) -> None:
        super().__init__(store, layout, optimizer, blocks_of(layout.trainable_size))
        self.exchange: Exchange = exchange

    def start(self, info: StepInfo) -> None:
        """Begin a step."""
        self._info = info
        self.exchange.start()

    def finish(self) -> bool:
        """Sum the gradients and update the parameters."""
        self.exchange.finish()
        self.exchange.activity.enter(OPTIMIZER)
        stats = self.exchange.stats
        # float: NumPy's own float64 would turn float32 arithmetic into buffered float64
        self._count = float(stats[COUNT])
        return not np.isfinite(stats[LOSS]) or self._bound.update(self._info, self._count)

    def _load(self, number: int, out: Array) -> None:
        np.copyto(out, self.exchange.vector[self._bound.parts[number]])
        self._penalty.add(number, out, self._count)

    def optimizer_state(self) -> dict[str, LazyArray]:
        """Return the optimizer's vectors, which every rank has."""
        return {name: LazyArray.of(value) for name, value in self._bound.state.items()}


class ShardedUpdater(Updater):
    """Each rank updates the parts whose sums it computes, in one pass over memory (ZeRO-1, arXiv:1910.02054).

    The optimizer's state is held once over all ranks, and the parameters once a host.
    """

    def __init__(self, store: HostArray, layout: ParamLayout, optimizer: Optimizer, exchange: ShardedExchange) -> None:
        super().__init__(store, layout, optimizer, exchange.parts)
        self.exchange: ShardedExchange = exchange
        self._plan: Plan | None = None
        self._sums: list[Array] = []
        """The sums of the parts, where they are needed twice, first for their norm: an exchange gives them once."""
        if optimizer.clip_norm:
            self._sums = [aligned_empty(part.stop - part.start, store.array.dtype) for part in exchange.parts]

    def start(self, info: StepInfo) -> None:
        """Begin a step."""
        self._info, self._plan = info, None
        self.exchange.start(self._consume, self._take_norm if self.optimizer.clip_norm else None)

    def finish(self) -> bool:
        """Sum the gradients, update the own parameters, and get the others'."""
        with np.errstate(all="ignore"):  # a run that diverges is told so once, by what this returns
            return not self.exchange.finish()

    def _take_norm(self) -> None:
        """Between gathering and updating: agree on the norm of the whole vector of sums."""
        self._count = float(self.exchange.stats[COUNT])
        for number, sums in enumerate(self._sums):
            self.exchange.sum_part(number, sums)
        totals = self.exchange.allgather_parts(np.array(self._bound.square_totals()), NORM_BLOCK)
        self._plan = self.optimizer.plan(self._info, self._count, norm_of(totals.tolist()))

    def _consume(self, part: int) -> bool:
        if not np.isfinite(self.exchange.stats[LOSS]):
            return False
        if self._plan is None:
            self._count = float(self.exchange.stats[COUNT])
            self._plan = self.optimizer.plan(self._info, self._count)
        self._enter(OPTIMIZER)
        finite = self._bound.update_part(self._plan, part)
        self._enter(REDUCE)
        return not finite

    def _enter(self, phase: str) -> None:
        """Tell what is being done, here or by the thread beside the computation."""
        activity = self.exchange.activity
        doing = activity.exchange_thread if self.exchange.overlap else activity
        if doing is not None:
            doing.enter(phase)

    def _load(self, number: int, out: Array) -> None:
        if self._sums:
            np.copyto(out, self._sums[number])
        else:
            self._enter(REDUCE)
            self.exchange.sum_part(number, out)
            self._enter(OPTIMIZER)
        self._penalty.add(number, out, self._count)

    def optimizer_state(self) -> dict[str, LazyArray]:
        """Return the optimizer's vectors, whose blocks are gathered when they are taken."""
        shape, gather = (self.layout.trainable_size,), self.exchange.gather_state
        return {
            name: LazyArray(own.dtype, shape, partial(gather, own, CHUNK // own.dtype.itemsize))
            for name, own in self._bound.state.items()
        }


def make_updater(
    comm: Communicator,
    layout: ParamLayout,
    optimizer: Optimizer,
    *,
    shards: int,
    dtype: DTypeLike,
    stats_length: int,
    sharded: bool = False,
    bucket: int = 0,
    compression: Compression | None = None,
) -> Updater:
    """Return the updater of one rank.

    Args:
        comm: the ranks.
        layout: of the parameters.
        optimizer: what turns gradients into steps.
        shards: gradient shards of a batch.
        dtype: type of parameters and arithmetic.
        stats_length: sums that travel with the gradients.
        sharded: whether each rank updates its own parts only. The bits are the same.
        bucket: entries that travel while later ones are still computed; 0: all at the end.
        compression: how gradient sums are rounded on their way, or None.
    """
    size = layout.trainable_size
    store = comm.host_array(layout.size, dtype, shared=sharded)
    if not sharded:
        exchange = comm.exchange(shards, size, dtype, stats_length, bucket=bucket, compression=compression)
        exchange.activity = comm.activity
        return ReplicatedUpdater(store, layout, optimizer, exchange)
    grain = NORM_BLOCK if optimizer.clip_norm else 1
    parts = comm.sharded_exchange(
        shards, store, size, stats_length, bucket=bucket, grain=grain, compression=compression
    )
    parts.activity = comm.activity
    return ShardedUpdater(store, layout, optimizer, parts)

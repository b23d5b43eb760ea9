"""From the ranks' gradient sums to new parameters: by each rank for its own parts, or on every rank alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.comm.protocol import Array, Bucket, Communicator, Compression, Exchange, GatherCells, HostArray
from hpcnn.nn.params import ParamLayout
from hpcnn.optim.arithmetic import Arithmetic
from hpcnn.optim.numpy_arithmetic import NUMPY
from hpcnn.optim.optimizer import NORM_BLOCK, BoundOptimizer, Optimizer
from hpcnn.optim.transforms import Parameter, StepInfo
from hpcnn.storage.lazy import LazyArray
from hpcnn.training.penalty import PenaltyGradient
from hpcnn.training.squared_norm import Squares, cell_entries, squares_of
from hpcnn.training.step_stats import LOSS, WEIGHT


class Updater:
    """The parameters, their optimizer, and the exchange of gradients that drives it.

    A step is `start`, `exchange.ready` as often as one likes while the contributions are filled, and `finish`. Each
    rank updates the parts that the exchange gives it: its own, so that the optimizer's state is held once over all
    ranks, and the parameters once a host (ZeRO-1, arXiv:1910.02054); or all, as every other rank does.
    """

    def __init__(
        self,
        store: HostArray,
        layout: ParamLayout,
        optimizer: Optimizer,
        exchange: Exchange,
        arithmetic: Arithmetic = NUMPY,
    ) -> None:
        self.store, self.layout, self.optimizer, self.exchange = store, layout, optimizer, exchange
        self.arithmetic = arithmetic
        params = store.array[: layout.trainable_size]
        parameters = [
            Parameter(spec.name, spec.shape, layout.offsets[spec.name]) for spec in layout.specs if spec.trainable
        ]
        self._bound = bound = BoundOptimizer(
            optimizer, params, exchange.parts, parameters, repeats=exchange.keeps_sums, arithmetic=arithmetic
        )
        self._gather: GatherCells | None = (
            exchange.cell_gather(bound.cells, bound.columns) if bound.reductions else None
        )
        self._penalty = PenaltyGradient(layout, params, exchange.parts, bound.gradients, arithmetic)
        self._info, self._total = StepInfo(0, 0.0), 0.0
        self._squares: dict[int, Squares] | None = None

    def start(self, info: StepInfo, *, squares: bool = False) -> None:
        """Begin a step: the contributions are about to be filled. `squares`: keep those of the gradient sums."""
        self._info, self._squares = info, {} if squares else None
        self.exchange.start(self._step)

    def finish(self) -> bool:
        """Sum the gradients and update the parameters; return whether every gradient was finite. Collective.

        Where the sum of the losses is not finite, nothing is updated.
        """
        with np.errstate(all="ignore"):  # a run that diverges is told so once, by what this returns
            return self.exchange.finish()

    def _step(self) -> bool:
        """Sum, update and send the parts of this rank, bucket by bucket."""
        exchange, bound, usable, finite = self.exchange, self._bound, None, True
        buckets: Iterable[Bucket] = exchange.buckets()
        if self._gather is not None:
            buckets = list(buckets)  # a norm takes the sums of all of them
            usable = self._begin()
            finite = not usable or self._take_norms(self._gather)
            usable &= finite
        for bucket in buckets:
            if usable is None:
                usable = self._begin()
            if usable:
                for number in bucket.parts:
                    if not bound.keeps:
                        self._load(number)
                        if not bound.check(number):
                            finite = False
                            continue
                    bound.update(number)
            bucket.send()
        return exchange.complete(finite)

    def _begin(self) -> bool:
        stats = self.exchange.stats
        if not np.isfinite(stats[LOSS]):
            return False
        # float: NumPy's own float64 would turn float32 arithmetic into buffered float64
        self._total = float(stats[WEIGHT]) or 1.0  # where no sample counts, the sum of the gradients is 0
        self._bound.begin(self._info, self._total)
        return True

    def _take_norms(self, gather: GatherCells) -> bool:
        """Do all stages but the last, each of which ends with a norm; return whether every gradient kept is finite."""
        bound, finite = self._bound, True
        for stage in range(bound.reductions):
            rows: list[list[float]] = []
            for number in range(len(bound.parts)):
                if stage == 0:
                    self._load(number)
                    finite &= not bound.keeps or bound.check(number)  # else it is checked when it is loaded again
                rows += bound.squares(number)
            bound.reduce(gather(np.array(rows).reshape(-1, bound.columns)))
        return finite

    def _load(self, number: int) -> None:
        gradient = self._bound.gradients[number]
        self.exchange.sum_into(number, gradient)
        self._penalty.add(number, self._total)
        if self._squares is not None and number not in self._squares:
            start = self._bound.parts[number].start
            self._squares[number] = squares_of(gradient, start, self.layout.trainable_size, self.arithmetic)

    @property
    def squares(self) -> list[Squares]:
        """The sums of squares of the gradient sums of the own parts in the last step, if that was asked for them."""
        return list((self._squares or {}).values())

    def optimizer_state(self) -> dict[str, LazyArray]:
        """Return the optimizer's vectors by name, brought together when they are taken."""
        state, spread, shape = self._bound.state, self.exchange.spread, (self.layout.trainable_size,)
        if spread is None:
            return {name: LazyArray.of(own) for name, own in state.items()}
        return {name: LazyArray(own.dtype, shape, deal=partial(spread.deal, own)) for name, own in state.items()}

    def load_optimizer_state(self, state: Mapping[str, Array]) -> None:
        """Overwrite the optimizer's vectors by whole ones of the same names."""
        self._bound.load_state(state)

    def compression_state(self) -> dict[str, LazyArray]:
        """Return the residuals of the compression by name, empty without it."""
        residuals = self.exchange.residuals
        if residuals is None:
            return {}
        dtype, shape = self.store.array.dtype, (self.layout.trainable_size,)
        return {name: LazyArray(dtype, shape, deal=partial(residuals.deal, name)) for name in residuals.names}

    def load_compression_state(self, state: Mapping[str, Array]) -> None:
        """Overwrite the residuals of the compression by whole vectors of the same names."""
        if self.exchange.residuals is not None:
            self.exchange.residuals.load(state)

    def first_bad_gradient(self) -> str | None:
        """Return the name of the parameter whose gradient this rank found not to be finite."""
        place = self._bound.not_finite_at
        return None if place is None else self.layout.name_at(place)


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
    arithmetic: Arithmetic = NUMPY,
) -> Updater:
    """Return the updater of one rank, for batches of `shards` and `stats_length` sums that travel beside the gradients.

    `sharded`: each rank updates its own parts only; the bits are the same. `bucket`: entries that travel while later
    ones are computed; 0: all at the end. `compression`: how gradient sums are rounded on their way.
    `arithmetic`: what updates the parameters.
    """
    size = layout.trainable_size
    exchange: Exchange
    store = comm.host_array(layout.size, dtype, shared=sharded)
    if sharded:
        alignment = NORM_BLOCK if len(optimizer.stages) > 1 else cell_entries(size)
        exchange = comm.sharded_exchange(
            shards, store, size, stats_length, bucket=bucket, alignment=alignment, compression=compression
        )
    else:
        exchange = comm.exchange(shards, size, dtype, stats_length, bucket=bucket, compression=compression)
    exchange.activity = comm.activity
    return Updater(store, layout, optimizer, exchange, arithmetic)

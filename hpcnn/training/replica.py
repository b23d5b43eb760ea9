"""One rank's copy of a model in training: a step shard by shard along the tree, one exchange, one update, and state."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcnn.comm.protocol import Contribution
from hpcnn.core.activity import BACKWARD, DATA, FORWARD, OTHER, REDUCE
from hpcnn.core.tree import LeafStep, leaf_steps
from hpcnn.nn.network import Ready
from hpcnn.nn.params import ParamLayout
from hpcnn.storage.checkpoint import part_of, prefixed
from hpcnn.storage.lazy import LazyArray
from hpcnn.system.denormals import FlushDenormals
from hpcnn.system.memory import aligned_empty
from hpcnn.training.model import Accumulator, Model
from hpcnn.training.step_stats import COUNT, LOSS, PENALTY, SAVE, STOP, Stats
from hpcnn.training.tuning import OverlapTrial
from hpcnn.training.updater import Updater

Array = NDArray[Any]
LoadShard = Callable[[int], tuple[Array, Array]]
"""``shard -> (x, y)``: the samples of one gradient shard of the batch, in memory that the next call may overwrite."""

DROPOUT_STREAM = 4
"""Keeps the draws of a training step apart from all other uses of the job's seed."""


class NotFiniteError(Exception):
    """The loss, or else a gradient, is no longer finite; raised on all ranks at the same step."""

    def __init__(self, what: str, where: str | None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        """What this rank found, for the message; None if it found nothing on its own shards."""


class Replica:
    """A model with what updates it, on the gradient shards of one rank.

    The parameters are given their start, the same on every rank, where the updater has them. `class_weights`, of shape
    (classes,), weigh the training loss alone, as in Keras. `trial` finds the faster way to exchange in the first steps.
    """

    def __init__(
        self,
        model: Model,
        updater: Updater,
        *,
        seed: int,
        class_weights: Array | None = None,
        trial: OverlapTrial | None = None,
    ) -> None:
        self.model, self.updater = model, updater
        self._seed, self._trial = seed, trial
        store, layout = updater.store, model.network.layout
        self._class_weights = None if class_weights is None else np.asarray(class_weights, store.array.dtype)
        if store.writes:
            layout.initialize(model.vector, seed)
        store.barrier()
        self._sums = _subtree_sums(layout, updater.exchange.contributions)
        self._first, self._last = self._sums[0].accumulators[0], self._sums[-1].leaves[-1]
        self._activity = updater.exchange.activity
        self._flush = FlushDenormals()

    @np.errstate(all="ignore")  # a run that diverges is told so once, not by warnings on every rank
    def train_step(self, step: int, load: LoadShard, *, factor: float, stop: bool = False, save: bool = False) -> Stats:
        """Do forward, backward, reduce and update for the owned shards; return the stats of the whole batch.

        `step` updates are done before, and schedules make `factor` of the learning rate. `stop` and `save`: whether
        this rank was asked to stop, and finds it time for a checkpoint. NotFiniteError: on all ranks alike.
        """
        begin = time.perf_counter()
        with self._flush:
            stats = self._train_step(step, load, factor, stop, save)
        if self._trial is not None and self._trial.took(time.perf_counter() - begin):
            self._trial = None
        return stats

    def _train_step(self, step: int, load: LoadShard, factor: float, stop: bool, save: bool) -> Stats:
        updater, model = self.updater, self.model
        penalty = model.penalty()  # of the weights as they are before the update
        updater.start(updater.optimizer.step_info(step, factor))
        for sums in self._sums:
            for leaf in sums.leaves:
                flags = (stop, save) if leaf is self._last else None
                self._shard(step, leaf, load, sums.accumulators, flags=flags)
        self._activity.enter(REDUCE)
        finite = updater.finish()
        self._activity.enter(OTHER)
        stats = updater.exchange.stats
        if not np.isfinite(stats[LOSS]):
            raise NotFiniteError("the loss", self._first_not_finite(step, load))
        if not finite:
            name = updater.first_bad_gradient()
            raise NotFiniteError("a gradient", name and f"the first gradient that is not finite is that of {name!r}")
        if model.network.state:
            self._update_state(stats)
        stats[PENALTY] = penalty * float(stats[COUNT])
        return stats[: model.layout.size]

    def _shard(
        self,
        step: int,
        leaf: LeafStep,
        load: LoadShard,
        accumulators: Sequence[Accumulator],
        *,
        flags: tuple[bool, bool] | None,
    ) -> None:
        """Compute one shard's gradient and add it where the tree has it.

        The rank's last shard brings `flags`, whether to stop and to save, and tells the updater what is complete.
        """
        activity, into = self._activity, accumulators[leaf.slot]
        activity.enter(DATA)
        x, y = load(leaf.leaf)
        into.stats[...] = 0
        activity.enter(FORWARD)
        backward = None
        if len(x):
            backward = self.model.forward_shard(self._key(step, leaf), x, y, self._weights_of(y), into.stats)
        for left, right in leaf.fold:
            accumulators[left].stats += accumulators[right].stats
        exchange, told = self.updater.exchange, False
        gradient = _GradientFold(accumulators, leaf.fold, exchange.ready if flags else None)
        if flags is not None:
            self._first.stats[[STOP, SAVE]] += flags
            told = exchange.overlap or bool(leaf.fold)  # else nobody takes the gradient before it is whole
        activity.enter(BACKWARD)
        if backward is not None:
            backward(into, gradient.ready if told else None)
        else:
            into.vector[...] = 0
        gradient.ready(0)

    def _key(self, step: int, leaf: LeafStep) -> tuple[int, ...]:
        return self._seed, DROPOUT_STREAM, step, leaf.leaf

    def _weights_of(self, y: Array) -> Array | None:
        if self._class_weights is None:
            return None
        if self.model.loss.target_kind == "labels":  # the type says nothing: rows may be integers too
            classes = y
        elif y.shape[-1] == 1:
            classes = (y[..., 0] > 0.5).astype(np.intp)
        else:
            classes = np.argmax(y, axis=-1)
        return self._class_weights[classes]

    def _update_state(self, stats: Array) -> None:
        """Give the network's state its mean over all samples; `stats` is that of all shards. Collective."""
        store, position = self.updater.store, self.model.layout.size
        for spec in self.model.network.state:
            if store.writes:
                mean = stats[position : position + spec.size] / float(stats[COUNT])
                self.model.params[spec.name][...] = mean.reshape(spec.shape)
            position += spec.size
        store.barrier()

    def _first_not_finite(self, step: int, load: LoadShard) -> str | None:
        for sums in self._sums:
            for leaf in sums.leaves:
                x, y = load(leaf.leaf)
                if len(x):
                    found = self.model.first_not_finite(self._key(step, leaf), x, y, self._weights_of(y))
                    if found is not None:
                        return f"{found} (shard {leaf.leaf})"
        return None

    def learning_rate(self, step: int, factor: float) -> float:
        """Return the learning rate of `step`."""
        return self.updater.optimizer.step_info(step, factor).learning_rate

    def synchronize(self) -> None:
        """Give all ranks the parameters of rank 0."""
        self.updater.store.broadcast()

    def weights(self) -> dict[str, Array]:
        """Return a copy of each parameter by name."""
        return self.model.weights()

    def load_weights(self, weights: Mapping[str, Array]) -> None:
        """Overwrite the parameters by arrays of the same names and shapes. Collective."""
        store = self.updater.store
        self.model.network.layout.check_state_dict(weights)
        store.barrier()  # a neighbour may still read them
        if store.writes:
            self.model.load_weights(weights)
        store.barrier()

    def state(self) -> dict[str, LazyArray]:
        """Return all that training changes, by the names of checkpoints: arrays as they are when they are fetched."""
        return {
            **prefixed("model", self.model.lazy_weights()),
            **prefixed("optimizer", self.updater.optimizer_state()),
            **prefixed("compression", self.updater.compression_state()),
        }

    def load_state(self, arrays: Mapping[str, Array]) -> None:
        """Overwrite all by what `state` returned on any number of ranks. Other names are left alone. Collective.

        CheckpointError: they are of another model or optimizer; then the weights are as they were.
        """
        weights = part_of("model", arrays)
        self.model.network.layout.check_state_dict(weights)
        self.updater.load_optimizer_state(part_of("optimizer", arrays))
        self.updater.load_compression_state(part_of("compression", arrays))
        self.load_weights(weights)


class _GradientFold:
    """Adds a shard's gradient along the tree, from the end of the vector to its start, as it is being written.

    `fold` says which accumulators to add to which; `then` is told from where on the sums are complete.
    """

    def __init__(
        self, accumulators: Sequence[Accumulator], fold: Sequence[tuple[int, int]], then: Ready | None
    ) -> None:
        self._pairs = [(accumulators[left].vector, accumulators[right].vector) for left, right in fold]
        self._added = accumulators[0].vector.size
        self._then = then

    def ready(self, start: int) -> None:
        """Add what was written since the last call: the entries from `start` on."""
        if self._added > start:
            part = slice(start, self._added)
            for left, right in self._pairs:
                np.add(left[part], right[part], out=left[part])
            self._added = start
        if self._then is not None:
            self._then(start)


@dataclass(frozen=True)
class _SubtreeSum:
    """How the shards of one contribution are added up."""

    accumulators: list[Accumulator]
    """The first is the contribution itself."""
    leaves: list[LeafStep]


def _subtree_sums(params: ParamLayout, contributions: Sequence[Contribution]) -> list[_SubtreeSum]:
    plans = [leaf_steps(contribution.subtree) for contribution in contributions]
    depth = max(leaf.slot for plan in plans for leaf in plan)
    first = contributions[0]
    spare = [
        Accumulator(params, aligned_empty(first.vector.size, first.vector.dtype), np.zeros_like(first.stats))
        for _ in range(depth)
    ]
    return [
        _SubtreeSum([Accumulator(params, contribution.vector, contribution.stats), *spare], plan)
        for contribution, plan in zip(contributions, plans, strict=True)
    ]

"""What the replicas of both modes share: a step shard by shard along the tree, one exchange, one update, and state."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hpcnn.comm.protocol import Array, Contribution
from hpcnn.core.activity import BACKWARD, DATA, FORWARD, OTHER, REDUCE
from hpcnn.core.tree import LeafStep, leaf_steps
from hpcnn.nn.loss import BoundLoss
from hpcnn.nn.network import Written
from hpcnn.nn.params import ParamLayout
from hpcnn.storage.lazy import LazyArray
from hpcnn.system.denormals import FlushDenormals
from hpcnn.system.memory import aligned_empty
from hpcnn.training.replica import LoadShard, NotFiniteError
from hpcnn.training.step_stats import COUNT, LOSS, PENALTY, SAVE, STOP, Sums, SumsLayout
from hpcnn.training.tuning import OverlapTrial
from hpcnn.training.updater import Updater
from hpcnn.training.vector_model import VectorModel

DROPOUT_STREAM = 4
"""Keeps the draws of a training step apart from all other uses of the job's seed."""


class Slot:
    """An accumulator: a gradient vector with its views, and its stats."""

    def __init__(self, params: ParamLayout, vector: Array, stats: Array) -> None:
        self.vector, self.stats = vector, stats
        self.grads = params.gradient_views(vector)


ShardBackward = Callable[[Slot, Written | None], None]
"""``(slot, written) -> None``: writes the gradient of a shard into the slot, and tells from where on it is written."""


@dataclass(frozen=True)
class ReplicaParts:
    """What a replica trains with, beside its network."""

    loss: BoundLoss
    """Bound to the network's head."""
    layout: SumsLayout
    """The sums to keep, with the metrics."""
    updater: Updater
    """Holds the parameters, and updates them with the gradients of all ranks."""
    seed: int
    """The job's."""
    trial: OverlapTrial | None = None
    """Finds the faster way to exchange in the first steps."""
    class_weights: Array | None = None
    """Weight of each class in the training loss, shape (classes,). As in Keras they weigh nothing in evaluation."""


class VectorReplica(VectorModel):
    """Base of a `Replica`: a `VectorModel` in training, on the gradient shards of one rank."""

    def _begin_training(self, parts: ReplicaParts) -> None:
        """Give the parameters their start, the same on every rank. For the constructor."""
        updater, class_weights = parts.updater, parts.class_weights
        store = updater.store
        self._labels = parts.loss.target_kind == "labels"
        self._class_weights = None if class_weights is None else np.asarray(class_weights, store.array.dtype)
        if store.writes:
            self._param_layout.initialize(self.vector, parts.seed)
        store.barrier()
        self._updater, self._seed, self._trial = updater, parts.seed, parts.trial
        self._work = _plan(self._param_layout, updater.exchange.contributions)
        self._activity = updater.exchange.activity
        self._flush = FlushDenormals()

    # ------------------------------------------------------------------------------------------------------ training

    @abstractmethod
    def _forward(self, key: tuple[int, ...], x: Array, y: Array, stats: Array) -> ShardBackward:
        """Compute the loss of a shard and add count, loss and metrics to `stats`; return the way back.

        `key` alone decides all random draws.
        """

    @abstractmethod
    def _not_finite(self, key: tuple[int, ...], x: Array, y: Array) -> str | None:
        """Return what is not finite first in the pass of a shard, in words, or None. May be slow."""

    def _step_done(self, stats: Array) -> None:
        """Take what else travels with the sums; `stats` is that of all shards. Collective."""

    @np.errstate(all="ignore")  # a run that diverges is told so once, not by warnings on every rank
    def train_step(self, step: int, load: LoadShard, *, factor: float, stop: bool = False, save: bool = False) -> Sums:
        """Do one update on the whole batch; see `Replica`."""
        begin = time.perf_counter()
        with self._flush:
            sums = self._train_step(step, load, factor, stop, save)
        if self._trial is not None and self._trial.took(time.perf_counter() - begin):
            self._trial = None
        return sums

    def _train_step(self, step: int, load: LoadShard, factor: float, stop: bool, save: bool) -> Sums:
        updater = self._updater
        penalty = self.penalty()  # of the weights as they are before the update
        updater.start(updater.optimizer.step_info(step, factor))
        last = self._work[-1][1][-1]
        for slots, leaves in self._work:
            for leaf in leaves:
                self._shard(step, leaf, load, slots, wishes=(stop, save) if leaf is last else None)
        self._activity.enter(REDUCE)
        finite = updater.finish()
        self._activity.enter(OTHER)
        stats = updater.exchange.stats
        if not np.isfinite(stats[LOSS]):
            raise NotFiniteError("the loss", self._first_not_finite(step, load))
        if not finite:
            raise NotFiniteError("a gradient", self._first_bad_gradient())
        self._step_done(stats)
        stats[PENALTY] = penalty * float(stats[COUNT])
        return stats[: self.layout.size]

    def _shard(
        self, step: int, leaf: LeafStep, load: LoadShard, slots: Sequence[Slot], *, wishes: tuple[bool, bool] | None
    ) -> None:
        """Compute one shard's gradient and add it where the tree wants it. The last one takes this rank's wishes."""
        activity, slot = self._activity, slots[leaf.slot]
        activity.enter(DATA)
        x, y = load(leaf.leaf)
        slot.stats[...] = 0
        activity.enter(FORWARD)
        backward = self._forward(self._key(step, leaf), x, y, slot.stats) if len(x) else None
        for left, right in leaf.fold:
            slots[left].stats += slots[right].stats
        add = _Adder(slots, leaf.fold)
        if wishes is not None:
            self._work[0][0][0].stats[[STOP, SAVE]] += wishes
            add.then = self._updater.ready
        activity.enter(BACKWARD)
        if backward is not None:
            backward(slot, add.written if wishes is not None else None)
        else:
            slot.vector[...] = 0
        add.written(0)

    def _key(self, step: int, leaf: LeafStep) -> tuple[int, ...]:
        return self._seed, DROPOUT_STREAM, step, leaf.leaf

    def _weights_of(self, y: Array) -> Array | None:
        """Return the weight of each sample, if classes have weights."""
        if self._class_weights is None:
            return None
        if self._labels:  # the type says nothing: rows may be integers too
            classes = y
        elif y.shape[-1] == 1:
            classes = (y[..., 0] > 0.5).astype(np.intp)
        else:
            classes = np.argmax(y, axis=-1)
        return self._class_weights[classes]

    def _first_not_finite(self, step: int, load: LoadShard) -> str | None:
        for _, leaves in self._work:
            for leaf in leaves:
                x, y = load(leaf.leaf)
                found = self._not_finite(self._key(step, leaf), x, y) if len(x) else None
                if found is not None:
                    return f"{found} (shard {leaf.leaf})"
        return None

    def _first_bad_gradient(self) -> str | None:
        name = self._updater.first_bad_gradient()
        return None if name is None else f"the first gradient that is not finite is that of {name!r}"

    # --------------------------------------------------------------------------------------------------------- state

    def learning_rate(self, step: int, factor: float) -> float:
        """Return the learning rate of `step`."""
        return self._updater.optimizer.step_info(step, factor).learning_rate

    def synchronize(self) -> None:
        """Give all ranks the parameters of rank 0."""
        self._updater.store.broadcast()

    def load_weights(self, weights: Mapping[str, Array]) -> None:
        """Overwrite the parameters."""
        store = self._updater.store
        self._param_layout.check_state_dict(weights)
        store.barrier()  # a neighbour may still read them
        if store.writes:
            super().load_weights(weights)
        store.barrier()

    def lazy_weights(self) -> dict[str, LazyArray]:
        """Return the parameters by name, as they are when they are fetched."""
        return {name: LazyArray.of(view) for name, view in self._params.items()}

    def optimizer_state(self) -> dict[str, LazyArray]:
        """Return the optimizer's vectors by name."""
        return self._updater.optimizer_state()

    def load_optimizer_state(self, state: Mapping[str, Array]) -> None:
        """Overwrite the optimizer's vectors."""
        self._updater.load_optimizer_state(state)

    def compression_state(self) -> dict[str, LazyArray]:
        """Return what compression owes by name."""
        return self._updater.compression_state()

    def load_compression_state(self, state: Mapping[str, Array]) -> None:
        """Overwrite what compression owes."""
        self._updater.load_compression_state(state)


class _Adder:
    """Adds a shard's gradient along the tree, from the end of the vector to its start, as it is being written."""

    def __init__(self, slots: Sequence[Slot], fold: Sequence[tuple[int, int]]) -> None:
        self._pairs = [(slots[left].vector, slots[right].vector) for left, right in fold]
        self._added = slots[0].vector.size
        self.then: Callable[[int], None] | None = None
        """Told from where on the sums are complete."""

    def written(self, start: int) -> None:
        """Add what was written since the last call: the entries from `start` on."""
        if self._added > start:
            part = slice(start, self._added)
            for left, right in self._pairs:
                np.add(left[part], right[part], out=left[part])
            self._added = start
        if self.then is not None:
            self.then(start)


def _plan(params: ParamLayout, contributions: Sequence[Contribution]) -> list[tuple[list[Slot], list[LeafStep]]]:
    """Return, for each contribution, its accumulators (the first is the contribution itself) and the leaves to sum."""
    plans = [leaf_steps(contribution.subtree) for contribution in contributions]
    depth = max(leaf.slot for plan in plans for leaf in plan)
    first = contributions[0]
    spare = [
        Slot(params, aligned_empty(first.vector.size, first.vector.dtype), np.zeros_like(first.stats))
        for _ in range(depth)
    ]
    return [
        ([Slot(params, contribution.vector, contribution.stats), *spare], plan)
        for contribution, plan in zip(contributions, plans, strict=True)
    ]

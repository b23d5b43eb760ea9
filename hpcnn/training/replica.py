"""One rank's copy of a model in training: a step shard by shard along the tree, one exchange, one update, and state."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcnn.core.activity import OTHER, REDUCE
from hpcnn.optim.optimizer import NORM_BLOCK
from hpcnn.storage.checkpoint import part_of, prefixed
from hpcnn.storage.lazy import LazyArray
from hpcnn.system.denormals import FlushDenormals
from hpcnn.training.batch_sums import AddRows, sum_alone
from hpcnn.training.gradient_pass import GradientPass, LoadShards, Shards
from hpcnn.training.model import Model
from hpcnn.training.penalty import PenaltyGradient
from hpcnn.training.shard_by_shard import ShardByShard, shard_key
from hpcnn.training.shards_in_step import ShardsInStep
from hpcnn.training.squared_norm import Squares
from hpcnn.training.step_stats import COUNT, LOSS, PENALTY, WEIGHT, Stats
from hpcnn.training.tuning import OverlapTrial
from hpcnn.training.updater import Updater

Array = NDArray[Any]


class NotFiniteError(Exception):
    """The loss, or else a gradient, is no longer finite; raised on all ranks at the same step."""

    def __init__(self, what: str, where: str | None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        """What this rank found, for the message; None if it found nothing on its own shards."""


class Measured(NamedTuple):
    """What a rank found of the squared norms of gradient sums in a step, penalties included."""

    of_batch: Sequence[Squares]
    """Of the parts of the whole batch's that this rank updates."""
    of_shard: tuple[float, int] | None
    """Of the batch's first shard, and its samples; None on other ranks, or if it has none."""


class Replica:
    """A model with what updates it, on the gradient shards of one rank.

    The parameters are given their start, the same on every rank, where the updater has them. `class_weights`, of shape
    (classes,), weigh the training loss alone, as in Keras. `trial` finds the faster way to exchange in the first steps.
    `batch_sums` sums rows over all ranks, for layers that need that.
    """

    def __init__(
        self,
        model: Model,
        updater: Updater,
        *,
        seed: int,
        class_weights: Array | None = None,
        trial: OverlapTrial | None = None,
        batch_sums: AddRows = sum_alone,
    ) -> None:
        self.model, self.updater = model, updater
        self._seed, self._trial = seed, trial
        store, layout = updater.store, model.network.layout
        self._class_weights = None if class_weights is None else np.asarray(class_weights, store.array.dtype)
        if store.writes:
            layout.initialize(model.vector, seed, model.arithmetic)
        store.barrier()
        contributions = updater.exchange.contributions
        self.owned = contributions[0].subtree[0], contributions[-1].subtree[1]
        """The first of this rank's gradient shards, and the one after the last."""
        weights_of = self._weights_of
        at_once = model.batch_pass(contributions, seed=seed, weights_of=weights_of, add=batch_sums)
        self._pass: GradientPass
        if at_once is not None:
            self._pass = at_once
        elif model.synchronized:
            self._pass = ShardsInStep(model, contributions, seed=seed, weights_of=weights_of, add=batch_sums)
        else:
            self._pass = ShardByShard(model, contributions, seed=seed, weights_of=weights_of)
        self.measure_every = 0
        """Every how many steps to measure gradients; 0: never."""
        self.measured: Measured | None = None
        """What was measured in the last step, if it was."""
        self._of_shard: tuple[float, int] | None = None
        self._activity = updater.exchange.activity
        # The core adds the sums of shards with gradual underflow; so must be added what NumPy adds between ranks.
        self._flush = FlushDenormals(flush=model.arithmetic == "numpy")

    @np.errstate(all="ignore")  # a run that diverges is told so once, not by warnings on every rank
    def train_step(
        self, step: int, load: LoadShards, *, factor: float, stop: bool = False, save: bool = False
    ) -> Stats:
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

    def _train_step(self, step: int, load: LoadShards, factor: float, stop: bool, save: bool) -> Stats:
        updater, model = self.updater, self.model
        penalty = model.penalty()  # of the weights as they are before the update
        measures = bool(self.measure_every) and (step + 1) % self.measure_every == 0
        self.measured = self._of_shard = None
        updater.start(updater.optimizer.step_info(step, factor), squares=measures)
        measure = self._measure if measures and self.owned[0] == 0 else None
        self._pass.run(step, load, (stop, save), updater.exchange, measure)
        self._activity.enter(REDUCE)
        finite = updater.finish()
        self._activity.enter(OTHER)
        stats = updater.exchange.stats
        if not np.isfinite(stats[LOSS]):
            raise NotFiniteError("the loss", self._first_not_finite(step, load))
        if not finite:
            name = updater.first_bad_gradient()
            raise NotFiniteError("a gradient", name and f"the first gradient that is not finite is that of {name!r}")
        if measures:
            self.measured = Measured(updater.squares, self._of_shard)
        if model.network.state:
            self._update_state(stats)
        stats[PENALTY] = penalty * float(stats[WEIGHT])
        return stats[: model.layout.size]

    def _measure(self, gradient: Array, samples: int) -> None:
        """Keep the squared norm of the gradient sum of a shard."""
        layout = self.model.network.layout
        if layout.penalized:
            gradient, whole = gradient.copy(), [slice(0, gradient.size)]
            params = self.updater.store.array[: gradient.size]
            PenaltyGradient(layout, params, whole, [gradient], self.updater.arithmetic).add(0, float(samples))
        cells = self.updater.arithmetic.cell_squares(gradient, NORM_BLOCK)
        self._of_shard = float(np.add.reduce(cells)), samples

    def _weights_of(self, samples: Shards) -> Array | None:
        """Return the weight of each sample, times that of its class."""
        if self._class_weights is None:
            return samples.weights
        y = samples.y
        if self.model.loss.target_kind == "labels":  # the type says nothing: rows may be integers too
            classes = y
        elif y.shape[-1] == 1:
            classes = (y[..., 0] > 0.5).astype(np.intp)
        else:
            classes = np.argmax(y, axis=-1)
        of_classes: Array = self._class_weights[classes]
        return of_classes if samples.weights is None else of_classes * samples.weights

    def _update_state(self, stats: Array) -> None:
        """Give the network's state its mean over all samples; `stats` is that of all shards. Collective."""
        store, position = self.updater.store, self.model.layout.size
        for spec in self.model.network.state:
            if store.writes:
                mean = stats[position : position + spec.size] / float(stats[COUNT])
                self.model.params[spec.name][...] = mean.reshape(spec.shape)
            position += spec.size
        store.barrier()

    def _first_not_finite(self, step: int, load: LoadShards) -> str | None:
        """Return, in words, what was not finite first on this rank, shard by shard; None if nothing was."""
        for contribution in self.updater.exchange.contributions:
            for shard in range(*contribution.subtree):
                samples = load(shard, shard + 1)
                if len(samples.x):
                    key, weights = shard_key(self._seed, step, shard), self._weights_of(samples)
                    found = self.model.first_not_finite(key, samples.x, samples.y, weights)
                    if found is not None:
                        return f"{found} (shard {shard})"
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

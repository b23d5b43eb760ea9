"""All gradient shards of a rank at once, by the compiled core: operations that are recorded once for each shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.backends.numpy.first_shard import FirstShard
from hpcnn.comm.protocol import Array, Contribution, Exchange
from hpcnn.core.activity import BACKWARD, DATA, FORWARD, Activity
from hpcnn.core.tree import fold_leaves, fold_rows
from hpcnn.kernels import core
from hpcnn.nn.context import Context
from hpcnn.nn.layer import BatchRows, BatchSum
from hpcnn.nn.native import NativeArithmetic, ShardRows
from hpcnn.nn.network import Network
from hpcnn.nn.passes import Asked, Ready, Steps
from hpcnn.system.memory import ALIGNMENT, aligned_empty
from hpcnn.training.batch_sums import AddRows, samples_of_batch
from hpcnn.training.gradient_pass import LoadShards, MeasureShard, Shards, WeightsOf
from hpcnn.training.metrics import Accuracy, CollectedMetric
from hpcnn.training.model import Model
from hpcnn.training.step_stats import COUNT, SAVE, STOP, WEIGHT

T = TypeVar("T")
MOST_RECORDINGS = 16
"""Kept at once. A job has two shapes of a batch; a loop of one's own may have another in every step."""


@dataclass
class _Recording:
    """What is done for batches of one shape, with arrays that stay where they are."""

    given: Shards
    """The samples that it was made for."""
    weights: Array | None
    """Those of the samples in the loss."""
    shards: ShardRows
    program: Any
    templates: list[Array]
    """What the stats of each contribution are at first."""
    copies: list[tuple[Array, Array]] = field(default_factory=list)
    """What to copy before: (array of the program, array that was given)."""
    forward: int = 0
    """Operations of the pass forward."""
    stops: list[tuple[int, Asked | int]] = field(default_factory=list)
    """What is to be done after so many operations: something of the whole batch; or the gradients are written from that
    entry on."""
    forward_stops: int = 0
    """How many of them belong to the pass forward."""
    state: list[Array] = field(default_factory=list)
    """What each shard makes of each parameter that is state: float64 (shards, ...)."""
    outputs: Array = field(default_factory=lambda: np.empty(0))
    targets: Array = field(default_factory=lambda: np.empty(0))

    def suited(self, array: Array, dtype: DTypeLike) -> Array:
        """Return the array, or memory of another type that takes a copy of it in each step."""
        aligned = array.__array_interface__["data"][0] % ALIGNMENT == 0
        if array.dtype == dtype and array.flags.c_contiguous and aligned:
            return array
        own = aligned_empty(array.shape, dtype)
        self.copies.append((own, array))
        return own


class BatchPass:
    """See `GradientPass`. Rows of a product do not depend on their neighbours, so that shards matter to sums alone."""

    def __init__(
        self,
        model: Model,
        network: Network,
        contributions: Sequence[Contribution],
        *,
        seed: int,
        weights_of: WeightsOf,
        add: AddRows,
        metrics: bool = True,
    ) -> None:
        self._add = add
        self._given: list[Array] = []
        """The sums over the whole batch in this step, where they are to be given again."""
        self._keeps_given = False
        self._first_shard: FirstShard | None = None
        self._model, self._network, self._loss = model, network, model.loss
        self._context = Context()
        self._contributions, self._seed, self._weights_of = contributions, seed, weights_of
        self._subtrees = [each.subtree for each in contributions]
        self._first, self._stop = self._subtrees[0][0], self._subtrees[-1][1]
        views = [network.layout.gradient_views(each.vector) for each in contributions]
        self._grads: Mapping[str, Any] = {name: tuple(view[name] for view in views) for name in views[0]}
        self._place = np.zeros(2, np.uint32)
        self._recordings: dict[tuple[Sequence[int], int], _Recording] = {}
        self._most_rows = 0
        self._totals: list[BatchSum] = []
        """Told to their layers at the end of a step, since other ranks wait for sums, but not for what follows."""
        kept = model.layout.metrics if metrics else ()
        all_count = model.layout.ignore_class is None
        self._counted = [place for place, metric in enumerate(kept) if all_count and isinstance(metric, Accuracy)]
        self._summed = [place for place, metric in enumerate(kept) if not isinstance(metric, CollectedMetric)]
        others = [place for place in self._summed if place not in self._counted]
        self._whole = [place for place in others if kept[place].counts]
        self._others = [place for place in others if not kept[place].counts]

    def run(
        self,
        step: int,
        load: LoadShards,
        flags: tuple[bool, bool],
        exchange: Exchange,
        measure: MeasureShard | None = None,
    ) -> None:
        """Compute all shards."""
        activity = exchange.activity
        self._totals.clear()
        self._given.clear()
        self._keeps_given = measure is not None
        activity.enter(DATA)
        loaded = load(self._first, self._stop)
        activity.enter(FORWARD)
        self._place[0], self._place[1] = loaded.starts[0] & 0xFFFFFFFF, step & 0xFFFFFFFF
        samples = samples_of_batch(self._add, loaded.starts) if self._loss.synchronized else 0
        if self._network.observed:
            recording = self._record(core, loaded, samples, activity)
        else:
            recording = self._recording(loaded, samples)
            self._begin(recording)
            forward, stops, overlap = recording.forward, recording.stops, exchange.overlap and measure is None
            ready = exchange.ready if overlap else None
            self._run(recording.program, 0, forward, stops[: recording.forward_stops], ready)
            activity.enter(BACKWARD)
            end = len(recording.program)
            self._run(recording.program, forward, end, stops[recording.forward_stops :], ready)
        for asked in self._totals:
            asked.done()
        self._add_state(recording)
        stats = self._contributions[0].stats
        stats[STOP], stats[SAVE] = flags
        if self._summed:
            self._add_other_metrics(recording)
        if measure is not None and loaded.starts[1] > loaded.starts[0]:
            measure(self._gradient_of_first(step, loaded, activity), loaded.starts[1] - loaded.starts[0])
        exchange.ready(0)

    def _gradient_of_first(self, step: int, loaded: Shards, activity: Activity) -> Array:
        """Return the gradient sum of the first shard."""
        contribution = self._contributions[0]
        if contribution.subtree[1] - contribution.subtree[0] == 1:
            return contribution.vector
        if self._first_shard is None:
            self._first_shard = FirstShard(contribution, self._gradients_only)
        return self._first_shard.gradient(step, loaded, self._given, activity)

    def _gradients_only(self, own: Sequence[Contribution], add: AddRows) -> BatchPass:
        seed, weights_of = self._seed, self._weights_of
        return BatchPass(self._model, self._network, own, seed=seed, weights_of=weights_of, add=add, metrics=False)

    def prepare(self, loaded: Shards) -> None:
        """Record what is done for such arrays, and do not do it."""
        starts = loaded.starts
        self._recording(loaded, starts[-1] - starts[0] if self._loss.synchronized else 0)

    @property
    def scratch_bytes(self) -> int:
        """Bytes of scratch that the recordings so far have taken."""
        return self._context.nbytes

    def _recording(self, loaded: Shards, samples: int) -> _Recording:
        key, rows = (loaded.starts, samples), len(loaded.x)
        recording = self._recordings.get(key)
        if recording is None or not _same_arrays(recording.given, loaded):
            if rows > self._most_rows or len(self._recordings) == MOST_RECORDINGS:
                self._recordings.clear()  # for more rows scratch grows: each older one would keep what it was before
            self._most_rows = max(self._most_rows, rows)
            recording = self._recordings[key] = self._record(core.Program(), loaded, samples)
        return recording

    def _begin(self, recording: _Recording) -> None:
        """Set all that changes from step to step."""
        for own, given in recording.copies:
            np.copyto(own, given, casting="unsafe")
        weights = self._weights_of(recording.given)
        if recording.weights is not None and weights is not None:
            np.copyto(recording.weights, weights)
        for contribution, template in zip(self._contributions, recording.templates, strict=True):
            contribution.stats[:] = template
        if recording.given.weights is not None:
            totals = tuple(each.stats[WEIGHT : WEIGHT + 1] for each in self._contributions)
            core.shard_totals(recording.shards.times(1), recording.given.weights.astype(np.float64), totals)

    def _run(
        self, program: Any, done: int, end: int, stops: Sequence[tuple[int, Asked | int]], ready: Ready | None
    ) -> None:
        """Do the operations from `done` to `end`, and what is to be done between; `ready` is told what is written."""
        for operations, stop in stops:
            if not isinstance(stop, int):
                program.run(done, operations)
                done = operations
                self._provide(stop)
            elif done < operations and ready is not None:
                program.run(done, operations)
                done = operations
                ready(stop)
        program.run(done, end)

    def _provide(self, asked: Asked) -> None:
        if isinstance(asked, BatchRows):
            self._add.gather(asked.own, asked.rows, asked.first)
            return
        if not asked.synchronized:
            asked.done()
            return
        self._add(asked.sums, asked.totals)
        if self._keeps_given:
            self._given.append(asked.totals.copy())
        self._totals.append(asked)

    def _record(
        self,
        target: Any,
        loaded: Shards,
        samples: int,
        activity: Activity | None = None,
    ) -> _Recording:
        """Return what is done for such arrays. The core itself as `target` does it at once.

        `samples` are those of the batch, where the loss asks. `activity` is told where the pass back begins.
        """
        x, y, starts, _ = loaded
        rows = [start - starts[0] for start in starts]
        shards = ShardRows(self._subtrees, rows)
        weights = self._weights_of(loaded)
        if weights is not None:
            weights = weights.copy()  # a program keeps it
        recording = _Recording(loaded, weights, shards, target, list(self._templates(shards, loaded)))
        dtype = self._model.vector.dtype
        inputs = recording.suited(x.reshape(len(x), *self._network.input_shape), dtype)
        targets = self._loss.suited_targets(y, dtype, recording.suited)
        self._begin(recording)
        context = self._context
        context.arithmetic = NativeArithmetic(target, shards, seed=self._seed, place=self._place)
        recorded = len if target is not core else lambda _: 0
        leaves = len(starts) - 1
        recording.state = [np.zeros((leaves, *spec.shape)) for spec in self._network.state]
        names = (spec.name for spec in self._network.state)
        new_state = dict(zip(names, recording.state, strict=True))
        context.begin(training=True, new_state=new_state, among=(starts[0], samples))

        def stop(what: Asked | int) -> None:
            if target is not core:
                recording.stops.append((recorded(target), what))
            elif not isinstance(what, int):
                self._provide(what)

        logits, network_backward = _stopping(self._network.steps(self._model.params, inputs, context), stop)
        targets = self._loss.fit_targets(logits, targets, context)
        terms, outputs, loss_backward = _stopping(self._loss.steps(logits, targets, weights, context), stop)
        recording.outputs, recording.targets = outputs, y if isinstance(targets, tuple) else targets
        self._add_totals(target, recording, terms)
        if activity is not None:
            activity.enter(BACKWARD)
        recording.forward, recording.forward_stops = recorded(target), len(recording.stops)
        _stopping(network_backward.steps(loss_backward(), self._grads, stop), stop)
        return recording

    def _add_state(self, recording: _Recording) -> None:
        """Add what the shards make of the network's state, weighted by their samples, along the tree."""
        starts, first, place = recording.shards.starts, self._first, self._model.layout.size
        samples = np.diff(starts).astype(np.float64)
        for values in recording.state:
            rows = values.reshape(len(values), -1) * samples[:, None]
            for contribution in self._contributions:
                begin, end = (shard - first for shard in contribution.subtree)
                contribution.stats[place : place + rows.shape[1]] = fold_rows(rows[begin:end])
            place += rows.shape[1]

    def _templates(self, shards: ShardRows, loaded: Shards) -> Iterator[Array]:
        """Yield what the stats of each contribution are before anything is computed."""
        layout, y = self._model.layout, loaded.y
        for first, end in shards.bounds:
            stats = np.zeros(self._contributions[0].stats.size)
            stats[COUNT] = stats[WEIGHT] = end - first
            for place in self._counted if loaded.weights is None else ():
                metric = layout.metrics[place]
                decided = y.size if metric.labels or metric.multilabel else y.size // y.shape[-1]
                stats[layout.parts[place]][1] = decided // max(1, len(y)) * (end - first)
            yield stats

    def _add_totals(self, target: Any, recording: _Recording, terms: Sequence[Array]) -> None:
        layout, all_stats = self._model.layout, [each.stats for each in self._contributions]
        shards = recording.shards.times(1)
        for place, own in zip(layout.losses, terms, strict=True):
            target.shard_totals(shards, own, tuple(stats[place : place + 1] for stats in all_stats))
        for place in self._counted if recording.given.weights is None else ():
            right = layout.parts[place].start
            into = tuple(stats[right : right + 1] for stats in all_stats)
            target.count_right(shards, recording.outputs, recording.targets, layout.metrics[place].multilabel, into)

    def _add_other_metrics(self, recording: _Recording) -> None:
        """Add metrics that the core does not know: counts at once, others shard by shard, along the tree.

        Those of samples with weights are not counts.
        """
        layout, rows, first, weights = self._model.layout, recording.shards.starts, self._first, recording.given.weights
        whole, others = (self._whole, self._others) if weights is None else ([], self._summed)
        if whole:
            for contribution, (start, end) in zip(self._contributions, recording.shards.bounds, strict=True):
                outputs, targets = recording.outputs[start:end], recording.targets[start:end]
                layout.add_metrics(contribution.stats, outputs, targets, places=whole)
        if not others:
            return

        def of_shard(shard: int) -> Array:
            stats = layout.zeros()
            part = slice(rows[shard - first], rows[shard - first + 1])
            own = None if weights is None else weights[part]
            layout.add_metrics(stats, recording.outputs[part], recording.targets[part], own, others)
            return stats

        for contribution in self._contributions:
            stats = fold_leaves(contribution.subtree, of_shard, np.add)
            for place in others:
                contribution.stats[layout.parts[place]] = stats[layout.parts[place]]


def _same_arrays(one: Shards, other: Shards) -> bool:
    return one.x is other.x and one.y is other.y and one.weights is other.weights


def _stopping(steps: Steps[T], stop: Callable[[Asked], None]) -> T:
    """Run a pass to its end, and pass on where it needs something of the whole batch."""
    while True:
        try:
            stop(next(steps))
        except StopIteration as end:
            result: T = end.value
            return result

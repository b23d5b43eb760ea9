"""The gradients of one rank, all of its shards kept in step: for passes that need something of the whole batch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from hpcnn.comm.protocol import Contribution, Exchange
from hpcnn.core.activity import BACKWARD, DATA, FORWARD
from hpcnn.core.tree import leaf_steps
from hpcnn.system.memory import aligned_empty
from hpcnn.training.batch_sums import AddRows, in_step, samples_of_batch
from hpcnn.training.gradient_pass import LoadShards, MeasureShard, WeightsOf
from hpcnn.training.model import Accumulator, Model, ShardPlace
from hpcnn.training.shard_by_shard import shard_key
from hpcnn.training.step_stats import SAVE, STOP


class ShardsInStep:
    """See `GradientPass`: for models that are computed shard by shard, but stop for sums or rows of the whole batch.

    A shard has a gradient vector and scratch memory of its own, since none is done before the others.
    """

    def __init__(
        self, model: Model, contributions: Sequence[Contribution], *, seed: int, weights_of: WeightsOf, add: AddRows
    ) -> None:
        self._model, self._contributions = model, contributions
        self._seed, self._weights_of, self._add = seed, weights_of, add
        self._first, self._stop = contributions[0].subtree[0], contributions[-1].subtree[1]
        first, layout = contributions[0], model.network.layout
        self._shards = [
            Accumulator(layout, aligned_empty(first.vector.size, first.vector.dtype), np.zeros_like(first.stats))
            for _ in range(self._first, self._stop)
        ]

    def run(
        self,
        step: int,
        load: LoadShards,
        flags: tuple[bool, bool],
        exchange: Exchange,
        measure: MeasureShard | None = None,
    ) -> None:
        """Compute all shards, and add them along the tree."""
        activity, first = exchange.activity, self._first
        activity.enter(DATA)
        loaded = load(first, self._stop)
        starts = loaded.starts
        rows = [slice(start - starts[0], end - starts[0]) for start, end in pairwise(starts)]
        activity.enter(FORWARD)
        samples = samples_of_batch(self._add, starts) if self._model.loss.synchronized else 0
        passes = [
            self._model.shard_steps(
                ShardPlace(place, starts[place], samples),
                shard_key(self._seed, step, first + place),
                own.x,
                own.y,
                self._weights_of(own),
                into.stats,
                own.weights,
            )
            for place, (own, into) in enumerate(zip(map(loaded.part, rows), self._shards, strict=True))
        ]
        backwards = in_step(passes, self._add)
        activity.enter(BACKWARD)
        in_step([backward(into) for backward, into in zip(backwards, self._shards, strict=True)], self._add)
        if measure is not None and len(loaded.x[rows[0]]):
            measure(self._shards[0].vector, len(loaded.x[rows[0]]))
        for contribution in self._contributions:
            self._fold(contribution)
        self._contributions[0].stats[[STOP, SAVE]] += flags
        exchange.ready(0)

    def _fold(self, contribution: Contribution) -> None:
        shards = self._shards
        slots: dict[int, Accumulator] = {}
        for leaf in leaf_steps(contribution.subtree):
            slots[leaf.slot] = shards[leaf.leaf - self._first]
            for left, right in leaf.fold:
                np.add(slots[left].vector, slots[right].vector, out=slots[left].vector)
                np.add(slots[left].stats, slots[right].stats, out=slots[left].stats)
        np.copyto(contribution.vector, slots[0].vector)
        np.copyto(contribution.stats, slots[0].stats)

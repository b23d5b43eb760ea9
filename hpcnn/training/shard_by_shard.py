"""The gradients of one rank, computed shard by shard, and added along the tree as they come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpcnn.comm.protocol import Contribution, Exchange
from hpcnn.core.activity import BACKWARD, DATA, FORWARD
from hpcnn.core.tree import LeafStep, leaf_steps
from hpcnn.nn.draws import DROPOUT_STREAM
from hpcnn.nn.params import ParamLayout
from hpcnn.nn.passes import Ready
from hpcnn.system.memory import aligned_empty
from hpcnn.training.gradient_pass import LoadShards, MeasureShard, WeightsOf
from hpcnn.training.model import Accumulator, Model
from hpcnn.training.step_stats import SAVE, STOP


def shard_key(seed: int, step: int, shard: int) -> tuple[int, ...]:
    """Return what decides the random draws of a shard that is computed alone."""
    return seed, DROPOUT_STREAM, step, shard


class ShardByShard:
    """See `GradientPass`: for models whose bits depend on which samples are computed together."""

    def __init__(
        self, model: Model, contributions: Sequence[Contribution], *, seed: int, weights_of: WeightsOf
    ) -> None:
        self._model, self._seed, self._weights_of = model, seed, weights_of
        self._sums = _subtree_sums(model.network.layout, contributions)
        self._first, self._last = self._sums[0].accumulators[0], self._sums[-1].leaves[-1]

    def run(
        self,
        step: int,
        load: LoadShards,
        flags: tuple[bool, bool],
        exchange: Exchange,
        measure: MeasureShard | None = None,
    ) -> None:
        """Compute one shard after the other."""
        with self._model.unchanged_weights():
            for sums in self._sums:
                for leaf in sums.leaves:
                    last = flags if leaf is self._last else None
                    self._shard(step, leaf, load, sums.accumulators, exchange, flags=last, measure=measure)
                    measure = None

    def _shard(
        self,
        step: int,
        leaf: LeafStep,
        load: LoadShards,
        accumulators: Sequence[Accumulator],
        exchange: Exchange,
        *,
        flags: tuple[bool, bool] | None,
        measure: MeasureShard | None,
    ) -> None:
        """Compute one shard's gradient and add it where the tree has it.

        The rank's last shard brings `flags`, and tells the exchange what is complete.
        """
        activity, into = exchange.activity, accumulators[leaf.slot]
        activity.enter(DATA)
        samples = load(leaf.leaf, leaf.leaf + 1)
        into.stats[...] = 0
        activity.enter(FORWARD)
        backward = None
        if len(samples.x):
            key, weights = shard_key(self._seed, step, leaf.leaf), self._weights_of(samples)
            backward = self._model.forward_shard(key, samples.x, samples.y, weights, into.stats, samples.weights)
        for left, right in leaf.fold:
            accumulators[left].stats += accumulators[right].stats
        told = False
        gradient = _GradientFold(accumulators, leaf.fold, exchange.ready if flags else None)
        if flags is not None:
            self._first.stats[[STOP, SAVE]] += flags
            # Else nobody takes the gradient before it is whole.
            told = (exchange.overlap or bool(leaf.fold)) and measure is None
        activity.enter(BACKWARD)
        if backward is not None:
            backward(into, gradient.ready if told else None)
            if measure is not None:
                measure(into.vector, len(samples.x))
        else:
            into.vector[...] = 0
        gradient.ready(0)


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

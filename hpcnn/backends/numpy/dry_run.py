"""How much scratch memory passes of a model take, found by passes over a few samples before there are any data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpcnn.backends.numpy.model import NumpyModel
from hpcnn.comm.protocol import Array, Contribution
from hpcnn.core.tree import Subtree
from hpcnn.nn.loss import BoundLoss
from hpcnn.nn.network import Network
from hpcnn.system.memory import aligned_empty
from hpcnn.training.backend import ModelSpec
from hpcnn.training.batch_sums import in_step, sum_alone
from hpcnn.training.model import Accumulator

_FEW = (1, 2)
"""Samples of each shard. What a pass takes is linear in that: samples are the first axis of scratch."""


def training_scratch(spec: ModelSpec, dtype: str, subtrees: Sequence[Subtree], samples: int) -> int:
    """Return the bytes of scratch of a rank that computes the shards of `subtrees`, `samples` in all.

    Memory that passes of the compiled core would take is reserved, but not used: they are recorded, and not done.
    """
    shards = subtrees[-1][1] - subtrees[0][0]
    return _at(samples / shards, *(_Trial(spec, dtype, few).training(subtrees) for few in _FEW))


def evaluation_scratch(spec: ModelSpec, dtype: str, samples: int) -> int:
    """Return the bytes of scratch of an evaluation of so many samples at a time; 0 of none."""
    return _at(samples, *(_Trial(spec, dtype, few).evaluation() for few in _FEW)) if samples else 0


def _at(samples: float, one: int, two: int) -> int:
    return round(one + (max(samples, 1) - 1) * (two - one))


class _Trial:
    """A model without content, to be given `few` samples a shard."""

    def __init__(self, spec: ModelSpec, dtype: str, few: int) -> None:
        assert isinstance(spec.network, Network)
        self._network, self._spec, self._dtype, self._few = spec.network, spec, dtype, few
        self._model = NumpyModel(
            spec.network, spec.loss, spec.layout, np.zeros(spec.network.layout.size, dtype), spec.arithmetic
        )

    def training(self, subtrees: Sequence[Subtree]) -> int:
        contributions = [
            Contribution(subtree, aligned_empty(self._network.layout.trainable_size, self._dtype), self._stats())
            for subtree in subtrees
        ]
        at_once = self._model.batch_pass(contributions, seed=0, weights_of=lambda y: None, add=sum_alone)
        shards = subtrees[-1][1] - subtrees[0][0]
        if at_once is not None:
            at_once.prepare(*self._samples(shards), tuple(range(0, shards * self._few + 1, self._few)))
            return at_once.scratch_bytes
        with np.errstate(all="ignore"):
            return self._in_step(shards) if self._model.synchronized else self._one_shard()

    def evaluation(self) -> int:
        with np.errstate(all="ignore"):
            self._model.evaluate(*self._samples(1))
        return self._model.scratch_bytes

    def _one_shard(self) -> int:
        backward = self._model.forward_shard((0, 0, 0), *self._samples(1), None, self._stats())
        backward(self._accumulator(), None)
        return self._model.scratch_bytes

    def _in_step(self, shards: int) -> int:
        """Compute one shard of those that are computed in step: each has scratch of its own."""
        passes = in_step([self._model.shard_steps(0, (0, 0, 0), *self._samples(1), None, self._stats())], sum_alone)
        in_step([backward(self._accumulator()) for backward in passes], sum_alone)
        return shards * self._model.scratch_bytes

    def _stats(self) -> Array:
        return np.zeros(self._spec.stats_length)

    def _accumulator(self) -> Accumulator:
        layout = self._network.layout
        return Accumulator(layout, aligned_empty(layout.trainable_size, self._dtype), self._stats())

    def _samples(self, shards: int) -> tuple[Array, Array]:
        n = shards * self._few
        inputs = aligned_empty((n, *self._network.input_shape), self._dtype)
        inputs[...] = 0
        return inputs, targets_like(self._spec.loss, self._network.output_shape, n, self._dtype)


def targets_like(loss: BoundLoss, output_shape: Sequence[int], n: int, dtype: str) -> Array:
    """Return targets of `n` samples as training has them, all of them 0."""
    if loss.target_kind == "labels":
        return np.zeros((n, *output_shape[:-1]), np.int64)
    return np.zeros((n, *output_shape), dtype)

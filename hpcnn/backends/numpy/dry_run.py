"""How much scratch memory passes of a model take, found by passes over a few samples before there are any data."""

from __future__ import annotations

import math
import mmap
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.backends.numpy.model import NumpyModel
from hpcnn.comm.protocol import Array, Contribution
from hpcnn.core.tree import Subtree
from hpcnn.nn.context import Context
from hpcnn.nn.network import Network
from hpcnn.nn.passes import as_whole_batch
from hpcnn.nn.several_losses import BoundLosses
from hpcnn.training.backend import ModelSpec
from hpcnn.training.batch_sums import in_step, sum_alone
from hpcnn.training.gradient_pass import Shards
from hpcnn.training.model import Accumulator, AnyLoss, ShardPlace

_FEW = (1, 2)
"""Samples of each shard. What a pass takes is linear in that: samples are the first axis of scratch."""
_MOST_COMPUTED = 2**27
"""Bytes of parameters up to which passes are done that can't be recorded: they read the weights and write gradients."""
_COPIES = 4
"""How many times the outputs of its layers a network takes, where nothing is tried."""
_MAP_NORESERVE = 0x4000
"""Of Linux; Python has no name for it before 3.12."""


def scratch_of_rank(spec: ModelSpec, dtype: str, subtrees: Sequence[Subtree], samples: int, piece: int) -> int:
    """Return the bytes of scratch of a rank in training.

    Args:
        spec: the model.
        dtype: of its parameters.
        subtrees: of the gradient shards that the rank computes.
        samples: of these shards.
        piece: samples that an evaluation takes at a time; 0: there is none.
    """
    training, evaluation = training_scratch(spec, dtype, subtrees, samples), evaluation_scratch(spec, dtype, piece)
    if _together(spec):
        return training + evaluation
    # Shards that come one after the other use the memory of an evaluation, as far as that is enough.
    both = min(piece, math.ceil(samples / _shards(subtrees)))
    return training + evaluation - evaluation_scratch(spec, dtype, both)


def _together(spec: ModelSpec) -> bool:
    """Return whether all shards of a rank have scratch at the same time."""
    assert isinstance(spec.network, Network)
    return _recordable(spec) or spec.network.synchronized or spec.loss.synchronized


def _shards(subtrees: Sequence[Subtree]) -> int:
    return subtrees[-1][1] - subtrees[0][0]


def training_scratch(spec: ModelSpec, dtype: str, subtrees: Sequence[Subtree], samples: int) -> int:
    """Return the bytes of scratch of a rank that computes the shards of `subtrees`, `samples` in all.

    Memory that passes of the compiled core would take is reserved, but not used: they are recorded, and not done.
    """
    each = samples / _shards(subtrees)
    if not _together(spec):
        each = samples = math.ceil(each)
    if not _can_try(spec, dtype):
        return _by_outputs(spec, dtype, samples)
    return _at(each, *(trial.training(subtrees) for trial in _trials(spec, dtype)))


def evaluation_scratch(spec: ModelSpec, dtype: str, samples: int) -> int:
    """Return the bytes of scratch of an evaluation of so many samples at a time; 0 of none."""
    if not samples:
        return 0
    if not _can_try(spec, dtype):
        return _by_outputs(spec, dtype, samples) // 2
    return _at(samples, *(trial.evaluation() for trial in _trials(spec, dtype)))


def _recordable(spec: ModelSpec) -> bool:
    assert isinstance(spec.network, Network)
    return spec.arithmetic == "native" and spec.network.recordable


def _can_try(spec: ModelSpec, dtype: str) -> bool:
    """Return whether passes are done on trial: not where they would take long, and layers of others are not called."""
    assert isinstance(spec.network, Network)
    if not all(node.layer.recordable for node in spec.network.nodes):
        return False
    return _recordable(spec) or spec.network.layout.size * np.dtype(dtype).itemsize <= _MOST_COMPUTED


def _by_outputs(spec: ModelSpec, dtype: str, samples: int) -> int:
    assert isinstance(spec.network, Network)
    entries = sum(math.prod(node.output_shape) for node in spec.network.nodes)
    return _COPIES * samples * entries * np.dtype(dtype).itemsize


def _reserved(size: int, dtype: DTypeLike) -> Array:
    """Return zeros that take no memory before they are touched, and may be more than there is."""
    nbytes = max(1, size * np.dtype(dtype).itemsize)
    if sys.platform != "linux":
        return np.zeros(size, dtype)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    return np.frombuffer(mmap.mmap(-1, nbytes, flags=flags), dtype, size)


def _at(samples: float, one: int, two: int) -> int:
    return round(one + (max(samples, 1) - 1) * (two - one))


def _trials(spec: ModelSpec, dtype: str) -> list[_Trial]:
    layout = spec.network.layout
    weights, gradient = _reserved(layout.size, dtype), _reserved(layout.trainable_size, dtype)
    return [_Trial(spec, weights, gradient, few) for few in _FEW]


class _Trial:
    """A model without content, to be given `few` samples a shard."""

    def __init__(self, spec: ModelSpec, weights: Array, gradient: Array, few: int) -> None:
        assert isinstance(spec.network, Network)
        self._network, self._spec, self._few = spec.network, spec, few
        self._dtype, self._gradient = weights.dtype.name, gradient
        self._model = NumpyModel(spec.network, spec.loss, spec.layout, weights, spec.arithmetic)

    def training(self, subtrees: Sequence[Subtree]) -> int:
        contributions = [
            Contribution(subtree, _reserved(self._gradient.size, self._dtype), self._stats()) for subtree in subtrees
        ]
        at_once = self._model.batch_pass(contributions, seed=0, weights_of=lambda samples: None, add=sum_alone)
        shards = _shards(subtrees)
        if at_once is not None:
            starts = tuple(range(0, shards * self._few + 1, self._few))
            at_once.prepare(Shards(*self._samples(shards), starts))
            return at_once.scratch_bytes
        with np.errstate(all="ignore"):
            return self._in_step(shards) if self._model.synchronized else self._one_shard()

    def evaluation(self) -> int:
        if _recordable(self._spec):
            return self._recorded_evaluation()
        with np.errstate(all="ignore"):
            self._model.evaluate(*self._samples(1), None)
        return self._model.scratch_bytes

    def _recorded_evaluation(self) -> int:
        from hpcnn.kernels import core
        from hpcnn.nn.native import NativeArithmetic

        x, y = self._samples(1)
        context = Context(arithmetic=NativeArithmetic(core.Program()))
        logits, _ = self._network.forward(self._model.params, x, context)
        loss = self._spec.loss
        targets = loss.suited_targets(y, self._dtype, _typed)
        as_whole_batch(loss.steps(logits, targets, None, context))
        return context.nbytes

    def _one_shard(self) -> int:
        backward = self._model.forward_shard((0, 0, 0), *self._samples(1), None, self._stats())
        backward(self._accumulator(), None)
        return self._model.scratch_bytes

    def _in_step(self, shards: int) -> int:
        """Compute one shard of those that are computed in step: each has scratch of its own."""
        place = ShardPlace(0, 0, self._few)
        passes = in_step([self._model.shard_steps(place, (0, 0, 0), *self._samples(1), None, self._stats())], sum_alone)
        in_step([backward(self._accumulator()) for backward in passes], sum_alone)
        return shards * self._model.scratch_bytes

    def _stats(self) -> Array:
        return np.zeros(self._spec.stats_length)

    def _accumulator(self) -> Accumulator:
        return Accumulator(self._network.layout, self._gradient, self._stats())

    def _samples(self, shards: int) -> tuple[Array, Array]:
        n = shards * self._few
        shape = (n, *self._network.input_shape)
        inputs = _reserved(math.prod(shape), self._dtype).reshape(shape)
        return inputs, targets_like(self._spec.loss, self._network.output_shape, n, self._dtype)


def _typed(array: Array, dtype: DTypeLike) -> Array:
    return array if array.dtype == dtype and array.flags.c_contiguous else array.astype(dtype)


def targets_like(loss: AnyLoss, output_shape: Sequence[int], n: int, dtype: str) -> Array:
    """Return targets of `n` samples as training has them, all of them 0."""
    if isinstance(loss, BoundLosses):
        return np.zeros((n, loss.width), np.int64 if loss.target_kind == "labels" else dtype)
    if loss.target_kind == "labels":
        return np.zeros((n, *output_shape[:-1]), np.int64)
    return np.zeros((n, *output_shape), dtype)

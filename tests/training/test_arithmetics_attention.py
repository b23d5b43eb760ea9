"""Attention and embeddings: both arithmetics compute the same, and shards matter to no bit of the compiled core's."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.nn import Context, CrossAttention, Embedding
from hpcnn.nn.native import NATIVE, NativeArithmetic, ShardRows
from hpcnn.nn.params import ParamLayout
from hpcnn.runs.build import build_replica, build_spec
from tests.nn.cases import attention
from tests.nn.helpers import normal
from tests.small_jobs import cut, make_job, train

N = 11
SUBTREES, STARTS = ((0, 4), (4, 6), (6, 7)), (0, 3, 3, 4, 7, 9, 10, 11)
"""Shards of 3, 0, 1, 3, 2, 1 and 1 samples, in three contributions."""
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-11}

LAYERS = {
    **attention.LAYERS,
    "embedding": (Embedding(6, 3, name="l"), (4,)),
    "embedding_wide": (Embedding(50, 37, name="l"), (3, 2)),
    "cross": (CrossAttention(2, 3, name="l"), ((5, 4), (6, 3))),
    "cross_key": (CrossAttention(2, 3, name="l"), ((5, 4), (6, 3), (6, 5))),
    "cross_mask": (CrossAttention(4, 3, num_kv_heads=2, causal=True, name="l"), ((5, 4), (6, 3), (6,))),
    "self_mask": (CrossAttention(2, 3, name="l"), ((5, 4), (5,))),
}


def several(shape):
    return isinstance(shape[0], tuple)


def inputs_of(layer, shape, dtype):
    """Return inputs: ids for embeddings, masks of 0 and 1."""
    if isinstance(layer, Embedding):
        return np.random.default_rng(3).integers(0, layer.input_dim, (N, *shape)).astype(dtype)
    if not several(shape):
        return normal(N, *shape, dtype=dtype)
    arrays = [normal(N, *each, seed=i, dtype=dtype) for i, each in enumerate(shape)]
    if len(shape[-1]) == 1:
        arrays[-1] = (arrays[-1] > -0.5).astype(dtype)
        arrays[-1][2] = 0  # nothing is left to attend to
    return arrays


class Setting:
    """A layer with parameters, inputs and the gradient of its outputs."""

    def __init__(self, name, dtype):
        self.layer, self.shape = LAYERS[name]
        self.layout = ParamLayout(self.layer.parameters(self.shape))
        self.vector = normal(self.layout.size, seed=5, dtype=dtype)
        self.params = self.layout.views(self.vector)
        self.x = inputs_of(self.layer, self.shape, dtype)
        self.dy = normal(N, *self.layer.output_shape(self.shape), seed=1, dtype=dtype)

    def passes(self, arithmetic, grads, rows=slice(None), run=lambda: None):
        """Return y and dx, and fill `grads`."""
        ctx = Context(training=True, arithmetic=arithmetic)
        x = [each[rows] for each in self.x] if several(self.shape) else self.x[rows]
        y, backward = self.layer.forward(self.params, x, ctx)
        dy = np.empty_like(y)
        arithmetic.copy(self.dy[rows], dy)
        dx = backward(dy, grads, need_dx=[True] * len(x) if several(self.shape) else True)
        run()
        return y.copy(), [each.copy() for each in (dx if several(self.shape) else [dx])]

    def gradients(self, groups):
        """Return vectors of gradients, and their views as a native pass takes them."""
        vectors = [np.full(self.layout.trainable_size, np.nan, self.vector.dtype) for _ in range(groups)]
        views = [self.layout.gradient_views(vector) for vector in vectors]
        return vectors, {name: tuple(view[name] for view in views) for name in views[0]}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", LAYERS)
def test_both_compute_the_same(name, dtype):
    setting = Setting(name, dtype)
    results = []
    for arithmetic in (NATIVE, Context().arithmetic):
        gradient = np.full(setting.layout.trainable_size, np.nan, dtype)
        y, dx = setting.passes(arithmetic, setting.layout.gradient_views(gradient))
        assert y.dtype == dtype
        results.append([y, *dx, gradient])
    for ours, theirs in zip(*results, strict=True):
        assert np.isfinite(ours).all()
        scale = TOLERANCE[dtype] * max(1, abs(theirs).max(initial=0))
        np.testing.assert_allclose(ours, theirs, rtol=TOLERANCE[dtype], atol=scale)


def added(subtree, gradients):
    """Return the sum of the shards' gradients along the tree."""
    from hpcnn.core.tree import fold_leaves

    return fold_leaves(subtree, lambda shard: gradients[shard].copy(), np.add)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", LAYERS)
def test_all_shards_at_once_and_recorded_give_the_bits_of_one_after_the_other(name, dtype):
    from hpcnn.kernels import core

    setting = Setting(name, dtype)
    program = core.Program()
    vectors, grads = setting.gradients(len(SUBTREES))
    recorded = NativeArithmetic(program, ShardRows(SUBTREES, STARTS))
    inputs = setting.x if several(setting.shape) else [setting.x]
    kept = [each.copy() for each in inputs]

    def run():
        for each, values in zip(inputs, kept, strict=True):
            each[...] = values
        for _ in range(2):
            program.run()

    for each in inputs:
        each[...] = 0  # recorded before the inputs are there, as in a training
    y, dx = setting.passes(recorded, grads, run=run)
    in_turn = []
    for first, end in pairwise(STARTS):
        gradient = np.full(setting.layout.trainable_size, np.nan, dtype)
        part = slice(first, end)
        own_y, own_dx = setting.passes(NATIVE, setting.layout.gradient_views(gradient), part)
        np.testing.assert_array_equal(own_y, y[part])
        for own, whole in zip(own_dx, dx, strict=True):
            np.testing.assert_array_equal(own, whole[part])
        in_turn.append(gradient)
    for vector, subtree in zip(vectors, SUBTREES, strict=True):
        assert vector.tobytes() == added(subtree, in_turn).tobytes()


@pytest.mark.parametrize("name", ["attention", "positions_learned", "embedding", "cross"])
def test_a_frozen_layer_leaves_the_gradients_alone(name):
    setting = Setting(name, np.float64)
    expected = setting.passes(NATIVE, setting.gradients(1)[1])
    setting.layer = replace(setting.layer, trainable=False)
    assert not any(spec.trainable for spec in setting.layer.parameters(setting.shape))
    y, dx = setting.passes(NATIVE, {})
    np.testing.assert_array_equal(y, expected[0])
    for ours, theirs in zip(dx, expected[1], strict=True):
        np.testing.assert_array_equal(ours, theirs)


TRANSFORMER = [
    {"type": "reshape", "shape": [5, 1]},
    {"type": "dense", "units": 8},
    {"type": "positional_embedding"},
    {"type": "residual", "layers": [
        {"type": "layer_norm"}, {"type": "multi_head_attention", "num_heads": 2, "key_dim": 4, "causal": True},
    ]},
    {"type": "residual", "layers": [{"type": "layer_norm"}, {"type": "dense", "units": 8, "activation": "gelu"}]},
    {"type": "flatten"},
    {"type": "dense", "units": 3, "activation": "softmax"},
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_transformer_has_the_same_bits_on_any_number_of_ranks_and_threads(dtype):
    from hpcnn.kernels import core

    job = make_job(model={"layers": TRANSFORMER}, train={"arithmetic": "native", "dtype": dtype})
    results = {train(job, ranks).fingerprint for ranks in (1, 2, 3, 5)}
    results.add(train(job, prepare=lambda training: training.replica.model.use_threads(3)).fingerprint)
    core.use_threads(1)
    assert len(results) == 1


def test_a_transformer_learns_alike_in_both_arithmetics():
    weights = []
    for arithmetic in ("native", "numpy"):
        job = make_job(model={"layers": TRANSFORMER}, train={"arithmetic": arithmetic, "dtype": "float64"})
        replica = build_replica(job, build_spec(job, (5,)), SerialCommunicator(), None)
        replica.load_weights({name: normal(*each.shape) for name, each in replica.weights().items()})
        rng = np.random.default_rng(1)
        x, y = rng.normal(size=(13, 5)), rng.integers(0, 3, 13)
        for step in range(3):
            replica.train_step(step, cut(x, y, 8), factor=1.0)
        weights.append(replica.weights())
    for name, array in weights[0].items():
        np.testing.assert_allclose(array, weights[1][name], rtol=1e-8, atol=1e-10)

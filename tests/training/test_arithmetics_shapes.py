"""Pooling, shapes, noise and rectifiers: both arithmetics agree, and shards matter to sums of gradients alone."""

from __future__ import annotations

import numpy as np
import pytest

from hpcnn.core.tree import fold_leaves
from hpcnn.kernels import core
from hpcnn.nn import Context
from hpcnn.nn.native import NATIVE, NativeArithmetic, ShardRows
from tests.nn.cases.shapes import LAYERS
from tests.nn.helpers import alone, normal

STARTS = [0, 3, 3, 8, 9]
"""Rows of four shards, one of which is empty."""
SUBTREES = [(0, 2), (2, 4)]
SEED, FIRST, STEP = 5, 20, 7
BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def case_of(name, dtype):
    """Return a layer, its parameters, inputs and the gradient of its outputs."""
    layer, input_shape = LAYERS[name]
    model = alone(layer, input_shape, dtype=dtype).shake()
    x = normal(STARTS[-1], *input_shape, dtype=dtype)
    x.flat[::7] = 0  # where rectifiers have a kink, and pooling has equals
    return layer, model.params, x, normal(STARTS[-1], *layer.output_shape(input_shape), seed=1, dtype=dtype)


def passes(layer, params, x, dy, ctx):
    """Return outputs, the gradient of the inputs and those of the parameters."""
    grads = {name: np.full_like(array, np.nan) for name, array in params.items()}
    y, backward = layer.forward(params, x.copy(), ctx)
    y = y.copy()
    return [y, backward(dy.copy(), grads).copy(), *grads.values()]


@BOTH
@pytest.mark.parametrize("name", LAYERS)
def test_both_compute_the_same(name, dtype):
    given = case_of(name, dtype)
    results = passes(*given, Context(arithmetic=NATIVE)), passes(*given, Context())
    tolerance = 1e-12 if dtype == np.float64 else 2e-6
    for ours, theirs in zip(*results, strict=True):
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


@BOTH
@pytest.mark.parametrize("name", LAYERS)
def test_all_shards_at_once_give_the_bits_of_each_alone(name, dtype):
    layer, params, x, dy = case_of(name, dtype)
    program, place = core.Program(), np.array([FIRST, STEP], np.uint32)
    together = NativeArithmetic(program, ShardRows(SUBTREES, STARTS), seed=SEED, place=place)
    grads = {name: tuple(np.full_like(array, np.nan) for _ in SUBTREES) for name, array in params.items()}
    x_given = np.zeros_like(x)  # recorded before the inputs are there, as in a training
    y, backward = layer.forward(params, x_given, Context(training=True, arithmetic=together))
    dx = backward(dy_given := dy.copy(), grads)
    for _ in range(2):  # a program gives the same each time
        x_given[...], dy_given[...] = x, dy
        program.run()

    def of_shard(shard):
        rows = slice(STARTS[shard], STARTS[shard + 1])
        own = NativeArithmetic(seed=SEED, place=np.array([FIRST + STARTS[shard], STEP], np.uint32))
        return passes(layer, params, x[rows], dy[rows], Context(training=True, arithmetic=own))

    alone_ = [of_shard(shard) for shard in range(4)]
    assert y.tobytes() == np.concatenate([each[0] for each in alone_]).tobytes()
    assert dx.tobytes() == np.concatenate([each[1] for each in alone_]).tobytes()
    for number, sums in enumerate(grads.values(), 2):
        for subtree, total in zip(SUBTREES, sums, strict=True):
            expected = fold_leaves(subtree, lambda shard, n=number: alone_[shard][n], np.add)
            assert total.tobytes() == expected.tobytes()


def test_not_a_number_comes_through():
    for name in ("max_pooling_1d", "global_max_pooling_1d", "average_pooling_1d_same", "prelu", "cropping_1d"):
        layer, params, x, _ = case_of(name, np.float32)
        x[...] = np.nan
        for ctx in (Context(arithmetic=NATIVE), Context()):
            assert np.isnan(layer.forward(params, x, ctx)[0]).all()

"""Convolutions: both arithmetics compute the same, and a rank's shards at once the bits of one after the other."""

from itertools import pairwise

import numpy as np
import pytest

from hpcnn.kernels import core
from hpcnn.nn import Context, Network
from hpcnn.nn.native import NATIVE, NativeArithmetic, ShardRows
from tests.nn.cases.convolution import LAYERS
from tests.nn.helpers import Model, alone, normal

STARTS = [0, 3, 3, 4, 8]
"""Rows of shards: uneven, one of them empty."""
SUBTREES = [(0, 2), (2, 4)]


def passes(model, arithmetic, x, c):
    """Return y, dx and the gradients of one pass, as arrays of their own."""
    context = Context(arithmetic=arithmetic)
    layer = model.network.layers[0]
    y, backward = layer.forward(model.params, x, context)
    y = y.copy()
    dx = backward(c.copy(), model.grads).copy()
    return y, dx, model.gradient.copy()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", LAYERS)
def test_both_compute_the_same(name, dtype):
    layer, shape = LAYERS[name]
    model = alone(layer, shape, dtype=dtype).shake()
    x, c = normal(5, *shape, dtype=dtype), normal(5, *layer.output_shape(shape), seed=1, dtype=dtype)
    tolerance = {"rtol": 1e-4, "atol": 2e-5} if dtype == np.float32 else {"rtol": 1e-11, "atol": 1e-12}
    for ours, theirs in zip(passes(model, NATIVE, x, c), passes(model, Context().arithmetic, x, c), strict=True):
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours, theirs, **tolerance)


def recorded(model, x, c, subtrees, starts):
    """Return y, dx and each subtree's gradient from the second run of a recorded program."""
    program = core.Program()
    vectors = [np.full(model.gradient.size, np.nan, x.dtype) for _ in subtrees]
    views = [model.network.layout.gradient_views(vector) for vector in vectors]
    grads = {name: tuple(view[name] for view in views) for name in views[0]}
    context = Context(arithmetic=NativeArithmetic(program, ShardRows(subtrees, starts)))
    given = np.zeros_like(x)  # recorded before the inputs are there, as in a training
    y, backward = model.network.layers[0].forward(model.params, given, context)
    dy = np.empty_like(c)
    dx = backward(dy, grads)
    given[...] = x
    for _ in range(2):
        dy[...] = c
        program.run()
    return y.copy(), dx.copy(), vectors


@pytest.mark.parametrize("name", LAYERS)
def test_all_shards_at_once_give_the_bits_of_one_after_the_other(name):
    layer, shape = LAYERS[name]
    dtype = np.float32
    model = alone(layer, shape, dtype=dtype).shake()
    n = STARTS[-1]
    x, c = normal(n, *shape, dtype=dtype), normal(n, *layer.output_shape(shape), seed=1, dtype=dtype)
    y, dx, sums = recorded(model, x, c, SUBTREES, STARTS)
    leaves = []
    for first, end in pairwise(STARTS):
        part_y, part_dx, part = passes(model, NATIVE, x[first:end], c[first:end])
        np.testing.assert_array_equal(part_y, y[first:end])
        np.testing.assert_array_equal(part_dx, dx[first:end])
        leaves.append(part)
    np.testing.assert_array_equal(sums[0], leaves[0] + leaves[1])
    np.testing.assert_array_equal(sums[1], leaves[2] + leaves[3])


def test_threads_change_no_bit():
    layers = [LAYERS[name][0].named(name) for name in ("conv2d_same", "depthwise_conv2d_more", "conv2d_transpose")]
    model = Model(layers, (48, 48, 2), dtype=np.float32).shake()
    x = normal(8, 48, 48, 2, dtype=np.float32)
    results = set()
    try:
        for threads in (1, 2, 3):
            core.use_threads(threads)
            network: Network = model.network
            y, backward = network.forward(model.params, x, Context(arithmetic=NATIVE))
            found = y.tobytes()
            backward(np.ones_like(y), model.grads)
            results.add(found + model.gradient.tobytes())
    finally:
        core.use_threads(1)
    assert len(results) == 1

"""Convolutions in the space of frequencies: both arithmetics, and all shards at once or one after the other."""

from itertools import pairwise

import numpy as np
import pytest

from hpcnn.core.tree import fold_leaves
from hpcnn.errors import ModelError
from hpcnn.kernels import core
from hpcnn.nn import Network, SpectralConv1D
from hpcnn.nn.native import NATIVE, NativeArithmetic, ShardRows
from hpcnn.nn.params import ParamLayout
from tests.nn.cases.spectral import LAYERS
from tests.nn.helpers import alone, normal
from tests.small_jobs import make_job, train

BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])
STARTS = [0, 4, 4, 5, 11, 13]
"""Rows of five leaves: one is empty."""
SUBTREES = [(0, 4), (4, 5)]


def passes(model, layer, x, c, arithmetic):
    """Return y, dx and the gradient."""
    model.ctx.arithmetic = arithmetic
    model.ctx.begin(training=True)
    y, backward = layer.forward(model.params, x, model.ctx)
    y = y.copy()
    return y, backward(c.copy(), model.grads).copy(), model.gradient.copy()


def case(name, dtype, n=STARTS[-1]):
    layer, input_shape = LAYERS[name]
    model = alone(layer, input_shape, dtype=dtype).shake()
    c = normal(n, *model.network.output_shape, seed=1, dtype=dtype)
    return model, layer, normal(n, *input_shape, dtype=dtype), c


@BOTH
@pytest.mark.parametrize("name", LAYERS)
def test_both_compute_the_same_as_a_fast_fourier_transform(name, dtype):
    model, layer, x, c = case(name, dtype)
    plain, native = (passes(model, layer, x, c, arithmetic) for arithmetic in (model.ctx.arithmetic, NATIVE))
    tolerance = 1e-12 if dtype == np.float64 else 2e-6
    for expected, computed in zip(plain, native, strict=True):
        assert computed.dtype == dtype
        np.testing.assert_allclose(computed, expected, rtol=0, atol=tolerance * max(1, abs(expected).max()))
    kernel = model.params["l/kernel"].astype(np.float64)
    low = np.fft.rfft(x, axis=1)[:, : layer.modes]
    mixed = np.einsum("nkc,kcf->nkf", low, kernel[:, 0] + 1j * kernel[:, 1])
    expected = np.fft.irfft(mixed, n=x.shape[1], axis=1) if x.shape[1] > 1 else mixed.real
    np.testing.assert_allclose(native[0], expected, rtol=0, atol=tolerance * max(1, abs(expected).max()))


@BOTH
@pytest.mark.parametrize("name", LAYERS)
def test_all_shards_at_once_give_the_bits_of_one_after_the_other(name, dtype):
    model, layer, x, c = case(name, dtype)
    vectors = [np.full_like(model.gradient, np.nan) for _ in SUBTREES]
    views = [model.network.layout.gradient_views(vector) for vector in vectors]
    grads = {each: tuple(view[each] for view in views) for each in model.grads}
    program = core.Program()
    model.ctx.arithmetic = NativeArithmetic(program, ShardRows(SUBTREES, STARTS))
    model.ctx.begin(training=True)
    given = np.zeros_like(x)  # recorded before the inputs are there, as in a training
    y, backward = layer.forward(model.params, given, model.ctx)
    dx = backward(c, grads)
    given[...] = x
    for _ in range(2):  # what a pass leaves behind does not matter to the next
        program.run()

    other, rows = case(name, dtype)[0], list(pairwise(STARTS))

    def of_leaf(leaf):
        part = slice(*rows[leaf])
        own_y, own_dx, gradient = passes(other, layer, x[part].copy(), c[part], NativeArithmetic())
        np.testing.assert_array_equal(own_y, y[part])
        np.testing.assert_array_equal(own_dx, dx[part])
        return gradient

    for subtree, vector in zip(SUBTREES, vectors, strict=True):
        np.testing.assert_array_equal(fold_leaves(subtree, of_leaf, np.add), vector)


@BOTH
def test_one_result_on_any_number_of_ranks_and_threads(dtype):
    layers = [
        {"type": "reshape", "shape": [5, 1]},
        {"type": "spectral_conv1d", "filters": 4, "modes": 3},
        {"type": "activation", "activation": "gelu"},
        {"type": "flatten"},
        {"type": "dense", "units": 3, "activation": "softmax"},
    ]
    job = make_job(model={"layers": layers}, train={"arithmetic": "native", "dtype": np.dtype(dtype).name})
    results = {train(job, ranks).fingerprint for ranks in (1, 2, 3)}
    results.add(train(job, prepare=lambda training: training.replica.model.use_threads(3)).fingerprint)
    core.use_threads(1)
    assert len(results) == 1


@pytest.mark.parametrize("arithmetic", ["native", "numpy"])
def test_the_kernel_starts_between_0_and_the_inverse_of_its_size(arithmetic):
    layout = ParamLayout(SpectralConv1D(5, 9, name="l").parameters((16, 4)))
    vector = np.empty(layout.size)
    layout.initialize(vector, 0, arithmetic)
    assert 0 <= vector.min() < 0.001
    assert 0.049 < vector.max() < 0.05
    assert abs(vector.mean() - 0.025) < 0.003


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ({"filters": 0}, (8, 3), "filters must be at least 1, but is 0"),
        ({"modes": 0}, (8, 3), "modes must be at least 1, but is 0"),
        ({}, (8,), r"needs inputs of shape \(length, channels\), but got \(8,\). Put a reshape layer before it"),
        ({"modes": 6}, (8, 3), "8 points have 5 frequencies, but modes is 6. Set it to 5 at most."),
        ({"modes": 5}, (7, 3), "7 points have 4 frequencies, but modes is 5. Set it to 4 at most."),
    ],
)
def test_refused(options, shape, message):
    with pytest.raises(ModelError, match=message):
        Network([SpectralConv1D(**{"filters": 2, "modes": 3} | options)], shape)

"""Values of the activations, their safety at the edges, and what a row may depend on."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hpcnn.errors import ModelError
from hpcnn.nn import Context
from hpcnn.nn.activations import ACTIVATIONS, activation, apply
from hpcnn.nn.erf import BLOCK, erf
from tests.nn.helpers import normal

E = math.e
VALUES = {
    "linear": [-1.0, 0.0, 2.0],
    "relu": [0.0, 0.0, 2.0],
    "leaky_relu": [-0.2, 0.0, 2.0],
    "elu": [1 / E - 1, 0.0, 2.0],
    "selu": [1.0507009873554805 * 1.6732632423543772 * (1 / E - 1), 0.0, 2 * 1.0507009873554805],
    "gelu": [-(1 + math.erf(-1 / 2**0.5)) / 2, 0.0, 1 + math.erf(2**0.5)],
    "swish": [-1 / (1 + E), 0.0, 2 / (1 + E**-2)],
    "softplus": [math.log(1 + 1 / E), math.log(2), math.log(1 + E**2)],
    "sigmoid": [1 / (1 + E), 0.5, 1 / (1 + E**-2)],
    "tanh": [math.tanh(-1), 0.0, math.tanh(2)],
    "softmax": [E**-1 / (1 / E + 1 + E**2), 1 / (1 / E + 1 + E**2), E**2 / (1 / E + 1 + E**2)],
}
LIMITS = {
    "relu": (0, np.inf),
    "leaky_relu": (-np.inf, np.inf),
    "elu": (-1, np.inf),
    "sigmoid": (0, 1),
    "tanh": (-1, 1),
    "softplus": (0, np.inf),
}
BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def test_every_activation_has_values():
    assert VALUES.keys() == ACTIVATIONS.keys()


@BOTH
@pytest.mark.parametrize("name", VALUES)
def test_values(name, dtype):
    y = apply(name, np.array([-1, 0, 2], dtype))
    assert y.dtype == dtype
    np.testing.assert_allclose(y, VALUES[name], rtol=1e-15 if dtype == np.float64 else 3e-7)


def test_apply_takes_lists_and_leaves_its_argument_alone():
    z = np.array([-1.0, 1.0])
    assert apply("relu", z).tolist() == [0, 1]
    assert z.tolist() == [-1, 1]
    assert apply("relu", [-1, 1]).dtype == np.float64


@BOTH
@pytest.mark.parametrize("name", LIMITS)
def test_far_out_there_is_no_warning(name, dtype):
    low, high = LIMITS[name]
    far = np.array([-np.inf, -1e30, -800, -90, 90, 800, 1e30, np.inf], dtype)
    y, backward = ACTIVATIONS[name](far.copy(), Context(), "a")
    assert y[0] == low
    assert y[-1] == high
    assert (np.diff(y) >= 0).all()
    assert np.isfinite(y[1:-1]).all()
    assert np.isfinite(backward(np.ones(8, dtype))).all()


@BOTH
@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "softmax"])
def test_nan_stays_nan(name, dtype):
    assert np.isnan(apply(name, np.full(9, np.nan, dtype))).all()
    assert np.isnan(apply(name, -np.full(9, np.nan, dtype))).all()


@BOTH
@pytest.mark.parametrize("zero", [0.0, -0.0])
@pytest.mark.parametrize("size", [1, 3, 4, 7, 8, 15, 16, 17, 33, 67])
def test_relu_has_no_slope_at_either_zero(size, zero, dtype):
    y, backward = ACTIVATIONS["relu"](np.full(size, zero, dtype), Context(), "a")
    assert not np.signbit(y).any()
    assert (backward(np.ones(size, dtype)) == 0).all()


@BOTH
def test_relu_passes_the_gradient_bit_for_bit_or_not_at_all(dtype):
    z, dy = normal(5, 31, dtype=dtype), normal(5, 31, seed=1, dtype=dtype)
    _, backward = ACTIVATIONS["relu"](z.copy(), Context(), "a")
    np.testing.assert_array_equal(backward(dy.copy()), np.where(z > 0, dy, 0))


@pytest.mark.parametrize(("dtype", "limit"), [(np.float64, 1.5e-15), (np.float32, 5e-7)])
def test_erf(dtype, limit):
    x = np.concatenate([np.linspace(-7, 7, 2 * BLOCK + 77), np.logspace(-35, 1, 500), -np.logspace(-35, 1, 500)])
    x = x.astype(dtype)
    y = np.empty_like(x)
    erf(x, y, np.empty((3, BLOCK), dtype))
    exact = np.array([math.erf(value) for value in x.tolist()])
    assert np.max(np.abs(y / np.where(exact == 0, 1, exact) - (exact != 0))) < limit
    assert np.abs(y).max() == 1


@BOTH
def test_erf_at_the_edges_and_in_place(dtype):
    x = np.array([0, np.inf, -np.inf, np.nan, 1e30, -0.0], dtype)
    erf(x, x, np.empty((3, BLOCK), dtype))
    np.testing.assert_array_equal(x, np.array([0, 1, -1, np.nan, 1, 0], dtype))


FINITE = st.floats(-1e4, 1e4, width=32)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["float32", "float64"]).flatmap(lambda t: arrays(t, (6, 11), elements=FINITE)))
def test_softmax_rows_sum_to_1(z):
    y = apply("softmax", z)
    assert (y >= 0).all()
    np.testing.assert_allclose(y.sum(axis=1), 1, rtol=2e-6 if z.dtype == np.float32 else 1e-14)


@settings(max_examples=40, deadline=None)
@given(
    arrays("float32", (6, 11), elements=FINITE),
    arrays("float32", (6, 11), elements=st.floats(width=32)),
    st.integers(0, 5),
    st.sampled_from(sorted(ACTIVATIONS)),
)
def test_a_row_depends_on_no_other_row(z, others, row, name):
    changed = others.copy()
    changed[row] = z[row]
    with np.errstate(all="ignore"):
        results = []
        for values in (z, changed):
            y, backward = ACTIVATIONS[name](values.copy(), Context(), "a")
            results.append((y[row].tobytes(), backward(np.full_like(values, 3))[row].tobytes()))
    assert results[0] == results[1]


def test_softmax_takes_each_rows_own_maximum():
    y = apply("softmax", np.array([[1e4, 1e4 - 1], [-1e4, -1e4 - 1]], np.float32))
    np.testing.assert_array_equal(y[0], y[1])


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(
        ModelError, match=re.escape("unknown activation 'rleu'. Did you mean 'relu'? Known: elu, gelu,")
    ):
        activation("rleu")

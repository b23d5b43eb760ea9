"""What layers return, refuse, draw and leave alone. Their gradients are in test_gradients.py."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcnn.errors import ModelError
from hpcnn.nn import (
    LSTM,
    Activation,
    Context,
    Dense,
    Dropout,
    Flatten,
    GroupNormalization,
    LayerNorm,
    Network,
    Reshape,
    Residual,
    RMSNormalization,
)
from tests.nn.cases import LAYERS
from tests.nn.helpers import Model, alone, normal

TRAINABLE = {
    "dense": (Dense(4, name="l"), Dense(4, trainable=False, name="l"), (3,)),
    "layer_norm": (LayerNorm(name="l"), LayerNorm(trainable=False, name="l"), (3,)),
    "group_norm": (GroupNormalization(3, name="l"), GroupNormalization(3, trainable=False, name="l"), (2, 3)),
    "rms_norm": (RMSNormalization(name="l"), RMSNormalization(trainable=False, name="l"), (3,)),
    "lstm": (LSTM(4, name="l"), LSTM(4, trainable=False, name="l"), (2, 3)),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", LAYERS)
def test_shapes_and_types(name, dtype):
    layer, input_shape = LAYERS[name]
    model = alone(layer, input_shape, dtype=dtype)
    for n in (3, 1, 5):
        y, backward = model.forward(normal(n, *input_shape, dtype=dtype))
        assert y.shape == (n, *model.network.output_shape)
        assert y.dtype == dtype
        backward(y.copy(), model.grads)
        assert np.isfinite(model.gradient).all()


@pytest.mark.parametrize("name", LAYERS)
def test_an_empty_piece_has_gradient_0(name):
    layer, input_shape = LAYERS[name]
    model = alone(layer, input_shape)
    y, backward = model.forward(np.empty((0, *input_shape)))
    assert y.shape == (0, *model.network.output_shape)
    backward(y.copy(), model.grads)
    assert (model.gradient == 0).all()


@pytest.mark.parametrize("name", LAYERS)
def test_the_input_is_left_alone(name):
    layer, input_shape = LAYERS[name]
    model, x = alone(layer, input_shape), normal(4, *input_shape)
    before = x.copy()
    y, backward = model.forward(x)
    backward(np.ones_like(y), model.grads)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("name", LAYERS)
def test_inputs_in_any_memory_layout_give_the_same_bits(name):
    layer, input_shape = LAYERS[name]
    model, x = alone(layer, input_shape), normal(4, *input_shape)
    results = []
    shifted = np.empty(x.size + 1)[1:].reshape(x.shape)
    shifted[...] = x
    for given_x in (x, np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2], shifted):
        y, backward = model.forward(given_x)
        results.append(y.copy())
        backward(np.ones_like(y), model.grads)
        results.append(model.gradient.copy())
    for result in zip(results[2::2], results[3::2], strict=True):
        np.testing.assert_array_equal(result[0], results[0])
        np.testing.assert_array_equal(result[1], results[1])


@pytest.mark.parametrize("name", TRAINABLE)
def test_a_frozen_layer_leaves_the_gradients_alone_and_passes_dx(name):
    learning, frozen, input_shape = TRAINABLE[name]
    x, dy = normal(5, *input_shape), normal(5, *learning.output_shape(input_shape), seed=1)
    passed = []
    for layer in (learning, frozen):
        model = alone(layer, input_shape)
        _, backward = layer.forward(model.params, x, model.ctx)
        passed.append(backward(dy.copy(), model.grads).copy())
        assert all(spec.trainable == layer.trainable for spec in layer.parameters(input_shape))
        assert bool(model.grads) == layer.trainable
    np.testing.assert_array_equal(*passed)


@pytest.mark.parametrize("use_bias", [True, False])
def test_dense(use_bias):
    model = Model([Dense(2, use_bias=use_bias, bias_initializer="ones", name="l")], (3,))
    x = normal(4, 3)
    y = model.forward(x)[0]
    np.testing.assert_allclose(y, x @ model.params["l/kernel"] + use_bias, rtol=1e-14)
    assert list(model.params) == ["l/kernel", "l/bias"][: 1 + use_bias]


def test_multiply_adds():
    assert Dense(4).multiply_adds((2, 5, 3)) == 2 * 5 * 3 * 4
    assert LayerNorm().multiply_adds((3,)) == 0


def test_dense_carries_its_penalties():
    kernel, bias = Dense(2, kernel_l1=1, kernel_l2=2, bias_l1=3, bias_l2=4, name="l").parameters((3,))
    assert (kernel.l1, kernel.l2, bias.l1, bias.l2) == (1, 2, 3, 4)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("scale", [True, False])
def test_layer_norm(center, scale):
    model = Model([LayerNorm(epsilon=1e-12, center=center, scale=scale, name="l")], (50,)).shake()
    y = model.forward(3 * normal(4, 50) + 7)[0]
    y = (y - model.params.get("l/beta", 0)) / model.params.get("l/gamma", 1)
    np.testing.assert_allclose(y.mean(axis=1), 0, atol=1e-13)
    np.testing.assert_allclose(y.std(axis=1), 1, rtol=1e-12)
    assert list(model.params) == [name for name, on in (("l/gamma", scale), ("l/beta", center)) if on]


def dropped(rate, key=(1,), shape=(400, 500), training=True, dtype=np.float32):
    return Model([Dropout(rate, name="l")], shape[1:]).forward(np.ones(shape, dtype), training, key)[0].copy()


@settings(max_examples=15, deadline=None)
@given(st.floats(0.01, 0.99), st.sampled_from([np.float32, np.float64]), st.integers(0, 99))
def test_dropout_keeps_the_mean(rate, dtype, seed):
    y = dropped(rate, (seed,), dtype=dtype)
    assert y.dtype == dtype
    deviation = np.sqrt(rate / (1 - rate) / y.size)
    assert abs(y.mean(dtype=np.float64) - 1) < 6 * deviation
    np.testing.assert_allclose(np.unique(y), [0, 1 / (1 - rate)], rtol=1e-6)


def test_dropout_is_a_function_of_the_key():
    assert (dropped(0.5, (1, 2)) == dropped(0.5, (1, 2))).all()
    assert 0.4 < (dropped(0.5, (1, 2)) == dropped(0.5, (1, 3))).mean() < 0.6


def test_two_dropouts_of_one_pass_differ():
    model = Model([Dropout(0.5, name="a"), Dropout(0.5, name="b")], (1000,))
    assert 0.2 < (model.forward(np.ones((1, 1000)))[0] > 0).mean() < 0.3


def test_dropout_drops_only_while_training_and_at_a_rate():
    assert (dropped(0.5, training=False) == 1).all()
    assert (dropped(0.0) == 1).all()
    assert (dropped(1e-9) == 1).all()
    assert 0 < (dropped(0.5) == 0).mean() < 1


def test_dropout_zeroes_the_gradient_where_it_zeroed_the_output():
    model = Model([Dropout(0.25, name="l")], (50,))
    model.ctx.begin(training=True)
    y, backward = model.network.layers[0].forward({}, np.ones((2, 50)), model.ctx)
    np.testing.assert_array_equal(backward(np.ones((2, 50)), {}), y)


def test_residual_adds_its_input():
    model = Model([Residual([Dense(3, activation="relu", name="i")], name="l")], (3,))
    x = normal(4, 3)
    np.testing.assert_allclose(model.forward(x)[0], x + np.maximum(x @ model.params["i/kernel"], 0), rtol=1e-13)
    assert isinstance(model.network.layers[0].layers, tuple)


def test_flatten_and_reshape():
    assert Flatten(name="l").output_shape((2, 3, 4)) == (24,)
    assert Flatten(name="l").output_shape(()) == (1,)
    assert Flatten(name="l").forward({}, np.zeros(5), Context())[0].shape == (5, 1)
    assert Reshape([4, -1, 2], name="l").output_shape((2, 3, 4)) == (4, 3, 2)


MESSAGES = {
    "units": (lambda: Dense(0, name="l"), "layer 'l': units must be at least 1, but is 0"),
    "activation": (lambda: Dense(1, activation="rleu", name="l"), "unknown activation 'rleu'. Did you mean 'relu'?"),
    "activation_layer": (
        lambda: Activation("sofmax", name="l"),
        "unknown activation 'sofmax'. Did you mean 'softmax'?",
    ),
    "kernel": (
        lambda: Dense(1, kernel_initializer="zero", name="l"),
        "unknown initializer 'zero'. Did you mean 'zeros'?",
    ),
    "bias": (lambda: Dense(1, bias_initializer="one", name="l"), "unknown initializer 'one'. Did you mean 'ones'?"),
    "dense_input": (
        lambda: Dense(1, name="l").output_shape(()),
        "layer 'l' needs inputs with at least one axis, but each",
    ),
    "softmax_input": (
        lambda: Activation("softmax", name="l").output_shape(()),
        "layer 'l': softmax needs inputs with at",
    ),
    "norm_input": (
        lambda: LayerNorm(name="l").output_shape(()),
        "layer 'l' needs inputs with at least one axis, but each",
    ),
    "epsilon": (lambda: LayerNorm(epsilon=0, name="l"), "layer 'l': epsilon must be above 0, but is 0"),
    "rate_1": (lambda: Dropout(1.0, name="l"), "layer 'l': rate must be at least 0 and below 1, but is 1.0"),
    "rate_negative": (lambda: Dropout(-0.1, name="l"), "layer 'l': rate must be at least 0 and below 1, but is -0.1"),
    "two_unknown": (
        lambda: Reshape((-1, -1), name="l"),
        "layer 'l': a shape is made of positive numbers and at most one -1",
    ),
    "zero_axis": (
        lambda: Reshape((0, 3), name="l"),
        "a shape is made of positive numbers and at most one -1, but is (0, 3)",
    ),
    "reshape": (
        lambda: Reshape((2, 2), name="l").output_shape((6,)),
        "layer 'l' can't turn inputs of shape (6,) (6 numbers a sample) into (2, 2): 6 is not 4",
    ),
    "reshape_inferred": (
        lambda: Reshape((4, -1), name="l").output_shape((2, 3)),
        "layer 'l' can't turn inputs of shape (2, 3) (6 numbers a sample) into (4, -1): 6 is not a multiple of 4",
    ),
    "residual_empty": (lambda: Residual((), name="l"), "layer 'l' holds no layers: give it at least one"),
    "residual_shape": (
        lambda: Network([Residual((Dense(5, name="i"),), name="l")], (3,)),
        "layer 'l' adds its input of shape (3,) to what its inner layers make of it, but they make (5,). "
        "Let its last layer, 'i', return the shape (3,).",
    ),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_messages(case):
    make, message = MESSAGES[case]
    with pytest.raises(ModelError, match=re.escape(message)):
        make()

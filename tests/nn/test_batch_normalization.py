"""Batch normalisation: its statistics and moving averages, against Keras and by hand; what it refuses."""

from __future__ import annotations

import re

import numpy as np
import pytest

from hpcnn.core.tree import fold_rows
from hpcnn.errors import ModelError
from hpcnn.nn import BatchNormalization, Context, GroupNormalization, RMSNormalization
from hpcnn.nn.native import NATIVE, NativeArithmetic, ShardRows
from hpcnn.nn.plain import NUMPY
from tests.nn.helpers import Model, alone, normal
from tests.require import require

BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])
ARITHMETICS = pytest.mark.parametrize("arithmetic", [NUMPY, NATIVE], ids=["numpy", "native"])
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-10}
SHAPE = (4, 2, 3)


def step_of(model: Model, x, dy, training=True):
    """Return y, dx, the gradients and the new state of a pass of the model's first layer."""
    layer = model.network.layers[0]
    state = {spec.name: np.full(spec.shape, np.nan) for spec in model.network.state}
    model.ctx.begin(training=training, new_state=state)
    y, backward = layer.forward(model.params, x, model.ctx)
    y = y.copy()
    dx = backward(dy.copy(), model.grads).copy()
    return y, dx, model.gradient.copy(), state


def keras_step(layer, model, x, dy, dtype):
    """Return the same by Keras: outputs, gradients of x and of the parameters, and what its averages become."""
    keras, tf = require("keras"), require("tensorflow")
    theirs = keras.layers.BatchNormalization(
        momentum=layer.momentum, epsilon=layer.epsilon, center=layer.center, scale=layer.scale,
        trainable=layer.trainable, dtype=np.dtype(dtype).name,
    )  # fmt: skip
    theirs.build(x.shape)
    for variable, value in zip(theirs.weights, model.params.values(), strict=True):
        variable.assign(value)
    tensor = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        y = theirs(tensor, training=True)
        total = tf.reduce_sum(y * dy)
    gradients = tape.gradient(total, [tensor, *(each.value for each in theirs.trainable_weights)])
    moved = [np.asarray(theirs.moving_mean), np.asarray(theirs.moving_variance)]
    flat = np.concatenate([np.ravel(each) for each in gradients[1:]] or [np.empty(0, dtype)])
    return np.asarray(y), np.asarray(gradients[0]), flat, moved


def near(ours, theirs, dtype):
    np.testing.assert_allclose(
        ours, theirs, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * max(1, np.abs(theirs).max())
    )


@BOTH
@ARITHMETICS
@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": 0.3, "epsilon": 0.1}, {"center": False}, {"scale": False}, {"trainable": False}],
    ids=str,
)
def test_a_step_is_that_of_keras(options, arithmetic, dtype) -> None:
    layer = BatchNormalization(name="l", **options)
    model = alone(layer, SHAPE, dtype=dtype).shake()
    model.ctx.arithmetic = arithmetic
    x, dy = 3 * normal(8, *SHAPE, dtype=dtype) + 2, normal(8, *SHAPE, seed=1, dtype=dtype)
    y, dx, gradient, state = step_of(model, x, dy)
    expected = keras_step(layer, model, x, dy, dtype)
    near(y, expected[0], dtype)
    near(dx, expected[1], dtype)
    if gradient.size:
        near(gradient, expected[2], dtype)
    assert bool(state) == layer.trainable
    for ours, theirs in zip(state.values(), expected[3], strict=False):
        near(ours, theirs, dtype)


@BOTH
def test_shards_are_normalised_as_keras_does_each_alone(dtype) -> None:
    layer = BatchNormalization(statistics="shard", name="l")
    model = alone(layer, SHAPE, dtype=dtype).shake()
    starts = [0, 3, 3, 8]
    model.ctx.arithmetic = NativeArithmetic(shards=ShardRows([(0, 3)], starts))
    x, dy = normal(8, *SHAPE, dtype=dtype), normal(8, *SHAPE, seed=1, dtype=dtype)
    y, dx, gradient, state = step_of(model, x, dy)
    parts = [slice(0, 3), slice(3, 8)]
    theirs = [keras_step(layer, model, x[part], dy[part], dtype) for part in parts]
    near(y, np.concatenate([each[0] for each in theirs]), dtype)
    near(dx, np.concatenate([each[1] for each in theirs]), dtype)
    near(gradient, theirs[0][2] + theirs[1][2], dtype)
    for place, ours in enumerate(state.values()):
        near(ours, (3 * theirs[0][3][place] + 5 * theirs[1][3][place]) / 8, dtype)


@ARITHMETICS
def test_evaluation_uses_the_moving_averages(arithmetic) -> None:
    model = alone(BatchNormalization(name="l"), (3,)).shake()
    model.ctx.arithmetic = arithmetic
    mean, variance = model.params["l/moving_mean"], model.params["l/moving_variance"]
    x = normal(5, 3)
    y, *_, state = step_of(model, x, x, training=False)
    expected = (x - mean) / np.sqrt(variance + 1e-3) * model.params["l/gamma"] + model.params["l/beta"]
    np.testing.assert_allclose(y, expected, rtol=1e-13)
    assert all(np.isnan(each).all() for each in state.values()), "evaluation changes no state"
    np.testing.assert_allclose(step_of(model, x[:1], x[:1], training=False)[0], expected[:1], rtol=1e-13)


@ARITHMETICS
def test_a_large_mean_does_not_swallow_the_variance(arithmetic) -> None:
    """In one pass over x: the sums are those of differences to the moving mean, and in float64."""
    model = alone(BatchNormalization(center=False, scale=False, name="l"), (2,), dtype=np.float32)
    model.ctx.arithmetic = arithmetic
    x = (normal(400, 2) + 1000).astype(np.float32)
    y = step_of(model, x, x)[0].astype(float)
    exact = (x - x.mean(axis=0, dtype=float)) / np.sqrt(x.var(axis=0, dtype=float) + 1e-3)
    np.testing.assert_allclose(y, exact, atol=2e-6)


@ARITHMETICS
@pytest.mark.parametrize("statistics", ["batch", "shard"])
def test_equal_inputs_have_variance_0(arithmetic, statistics) -> None:
    model = alone(BatchNormalization(statistics=statistics, name="l"), (2,))
    model.ctx.arithmetic = arithmetic
    x = np.full((7, 2), 0.1)
    y, dx, _, state = step_of(model, x, normal(7, 2))
    np.testing.assert_allclose(y, 0, atol=1e-14)
    assert np.isfinite(dx).all()
    np.testing.assert_allclose(state["l/moving_variance"], 0.99, rtol=1e-12)
    np.testing.assert_allclose(state["l/moving_mean"], 0.001, rtol=1e-12)


@pytest.mark.parametrize("statistics", ["batch", "shard"])
def test_state_of_each_shard(statistics) -> None:
    layer = BatchNormalization(statistics=statistics, momentum=0.5, name="l")
    model = alone(layer, (2,)).shake()
    starts = [0, 2, 2, 7]
    ctx = Context(training=True, arithmetic=NativeArithmetic(shards=ShardRows([(0, 2), (2, 3)], starts)))
    x = normal(7, 2)
    sums, _ = layer.begin(model.params, x, ctx)
    assert sums.shape == (3, 5)
    assert list(sums[:, 0]) == [2, 0, 5]
    new = layer.new_state(model.params, sums, fold_rows(sums))
    mean, variance = (model.params[f"l/moving_{each}"] for each in ("mean", "variance"))
    for leaf, part in enumerate([x[:2], None, x[2:]]):
        used = x if statistics == "batch" else part
        expected = (mean, variance) if used is None else ((mean + used.mean(0)) / 2, (variance + used.var(0)) / 2)
        np.testing.assert_allclose(new["l/moving_mean"][leaf], expected[0], rtol=1e-13)
        np.testing.assert_allclose(new["l/moving_variance"][leaf], expected[1], rtol=1e-13)
    assert layer.synchronized == (statistics == "batch")


def test_not_a_number_stays_one() -> None:
    for arithmetic in (NUMPY, NATIVE):
        model = alone(BatchNormalization(name="l"), (2,))
        model.ctx.arithmetic = arithmetic
        x = normal(6, 2)
        x[3, 1] = np.nan
        y = step_of(model, x, x)[0]
        assert np.isnan(y[:, 1]).all()
        assert np.isfinite(y[:, 0]).all()


def test_a_frozen_layer_takes_no_sums() -> None:
    layer = BatchNormalization(trainable=False, name="l")
    assert not layer.synchronized
    assert not layer.collects(Context(training=True))
    assert BatchNormalization().collects(Context(training=True))
    assert not BatchNormalization().collects(Context(training=False))
    assert not any(spec.state or spec.trainable for spec in layer.parameters((3,)))
    assert [spec.state for spec in BatchNormalization(name="l").parameters((3,))] == [False, False, True, True]


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_groups(groups) -> None:
    model = Model([GroupNormalization(groups=groups, epsilon=1e-12, name="l")], (5, 4))
    y = model.forward(3 * normal(3, 5, 4) + 7)[0].reshape(3, 5, groups, 4 // groups)
    np.testing.assert_allclose(y.mean(axis=(1, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(y.std(axis=(1, 3)), 1, rtol=1e-9)


MESSAGES = {
    "momentum": (lambda: BatchNormalization(momentum=1.5, name="l"), "layer 'l': momentum must be between 0 and 1"),
    "batch_epsilon": (lambda: BatchNormalization(epsilon=0, name="l"), "layer 'l': epsilon must be above 0, but is 0"),
    "statistics": (
        lambda: BatchNormalization(statistics="rank", name="l"),
        "layer 'l': statistics must be 'batch' or 'shard', but is 'rank'",
    ),
    "batch_input": (lambda: BatchNormalization(name="l").output_shape(()), "layer 'l' needs inputs with at least one"),
    "no_groups": (
        lambda: GroupNormalization(groups=0, name="l"),
        "layer 'l': groups must be at least 1, or -1 for a group of each channel, but is 0",
    ),
    "groups": (
        lambda: GroupNormalization(name="l").output_shape((3, 48)),
        "layer 'l' can't divide 48 channels into 32 equal groups: set groups to a divisor of 48, or to -1",
    ),
    "group_epsilon": (lambda: GroupNormalization(epsilon=-1, name="l"), "layer 'l': epsilon must be above 0"),
    "group_input": (lambda: GroupNormalization(name="l").output_shape(()), "layer 'l' needs inputs with at least one"),
    "rms_epsilon": (lambda: RMSNormalization(epsilon=0, name="l"), "layer 'l': epsilon must be above 0, but is 0"),
    "rms_input": (lambda: RMSNormalization(name="l").output_shape(()), "layer 'l' needs inputs with at least one axis"),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_messages(case) -> None:
    make, message = MESSAGES[case]
    with pytest.raises(ModelError, match=re.escape(message)):
        make()

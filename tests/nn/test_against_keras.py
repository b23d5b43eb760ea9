"""Outputs, losses and gradients against Keras 3, a second implementation that nobody here wrote."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hpcnn.nn import Activation, Context, Dense, Dropout, Flatten, LayerNorm, Reshape, Residual, TimeDistributed
from hpcnn.nn.activations import ACTIVATIONS
from hpcnn.nn.losses import SparseCategoricalCrossentropy
from tests.nn.cases import KERAS, KERAS_BY_SHAPE, KERAS_FLOAT32, LAYERS, LOSSES, LOSSES_BEHIND_HEADS, recurrent
from tests.nn.cases.losses import fitting_logits, loss_case
from tests.nn.helpers import Model, alone, normal
from tests.require import require

TOLERANCE = {np.float64: 1e-10, np.float32: 1e-5}
BOTH = pytest.mark.parametrize("dtype", TOLERANCE)
KERAS_LOSSES = {
    "mse": "MeanSquaredError",
    "mae": "MeanAbsoluteError",
    "huber": "Huber",
    "binary_crossentropy": "BinaryCrossentropy",
    "categorical_crossentropy": "CategoricalCrossentropy",
    "sparse_categorical_crossentropy": "CategoricalCrossentropy",
    "mape": "MeanAbsolutePercentageError",
    "msle": "MeanSquaredLogarithmicError",
    "log_cosh": "LogCosh",
    "poisson": "Poisson",
    "hinge": "Hinge",
    "binary_focal_crossentropy": "BinaryFocalCrossentropy",
    "categorical_focal_crossentropy": "CategoricalFocalCrossentropy",
    "kl_divergence": "KLDivergence",
    "cosine_similarity": "CosineSimilarity",
    "dice": "Dice",
    "iou": "Tversky",
}


@pytest.fixture(scope="module")
def tf(keras):
    return require("tensorflow")


@pytest.fixture(scope="module")
def keras():
    keras = require("keras")
    if keras.backend.backend() != "tensorflow":
        pytest.fail(f"these tests need Keras on TensorFlow, but KERAS_BACKEND is {keras.backend.backend()!r}")
    return keras


def same(ours, theirs, dtype):
    theirs = np.asarray(theirs)
    assert theirs.dtype == dtype
    np.testing.assert_allclose(
        ours, theirs, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * max(1, np.abs(theirs).max())
    )


def activation_of(keras, name):
    """Return Keras's activation. Two round a constant to float32 also for float64, so those are put together here."""
    if name == "gelu":
        return lambda x: 0.5 * x * (1 + keras.ops.erf(x * math.sqrt(0.5)))
    if name == "leaky_relu":
        return lambda x: keras.ops.where(x > 0, x, 0.2 * x)
    return keras.activations.get(name)


def to_keras(keras, layers, dtype):
    """Return (function of a tensor, variables in the order of our parameters, filled by calling it)."""
    variables = []
    made = {}

    def call(layer, x):
        if isinstance(layer, Residual):
            inner = x
            for each in layer.layers:
                inner = call(each, inner)
            return x + inner
        if isinstance(layer, TimeDistributed):
            return keras.ops.stack([call(layer.inner, x[:, step]) for step in range(x.shape[1])], axis=1)
        if layer.name not in made:
            made[layer.name] = new(layer, x)
            y = made[layer.name](x)
            variables.extend(made[layer.name].weights)
            return y
        return made[layer.name](x)

    def new(layer, x):
        name = np.dtype(dtype).name
        if type(layer) in recurrent.KERAS:
            return recurrent.KERAS[type(layer)](keras, layer, name, activation_of)
        if type(layer) in KERAS_BY_SHAPE:
            return KERAS_BY_SHAPE[type(layer)](keras, layer, tuple(x.shape[1:]), name)
        if type(layer) in KERAS:
            return KERAS[type(layer)](keras, layer, name)
        if isinstance(layer, Dense):
            activation = activation_of(keras, layer.activation)
            return keras.layers.Dense(layer.units, activation=activation, use_bias=layer.use_bias, dtype=name)
        if isinstance(layer, LayerNorm):
            options = {"epsilon": layer.epsilon} if layer.epsilon != LayerNorm(name="x").epsilon else {}
            return keras.layers.LayerNormalization(center=layer.center, scale=layer.scale, dtype=name, **options)
        if isinstance(layer, Reshape):
            return keras.layers.Reshape(layer.shape, dtype=name)
        if isinstance(layer, Dropout):
            return keras.layers.Dropout(layer.rate, dtype=name)
        if isinstance(layer, Activation):
            return keras.layers.Activation(layer.activation, dtype=name)
        assert isinstance(layer, Flatten)
        return keras.layers.Flatten(dtype=name)

    def function(x):
        for layer in layers:
            x = call(layer, x)
        return x

    return function, variables


def fill(model, variables):
    """Give Keras's variables the model's parameters."""
    assert len(variables) == len(model.params)
    for variable, value in zip(variables, model.params.values(), strict=True):
        variable.assign(value)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, dtype) for name in LAYERS for dtype in TOLERANCE if dtype == np.float32 or name not in KERAS_FLOAT32],
)
def test_layer(keras, tf, name, dtype):
    layer, input_shape = LAYERS[name]
    model = alone(layer, input_shape, dtype=dtype).shake()
    x, c = normal(4, *input_shape, dtype=dtype), normal(4, *model.network.output_shape, seed=1, dtype=dtype)
    function, variables = to_keras(keras, [layer], dtype)
    function(tf.constant(x))
    fill(model, variables)
    tensor = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        y = function(tensor)
        total = tf.reduce_sum(y * c)
    learning = [each.value for each, name in zip(variables, model.params, strict=True) if name in model.grads]
    expected = tape.gradient(total, [tensor, *learning])

    model.ctx.begin(training=False)
    ours, backward = model.network.forward(model.params, x.copy(), model.ctx)
    same(ours, y, dtype)
    same(backward(c.copy(), model.grads, need_dx=True), expected[0], dtype)
    for gradient, theirs in zip(model.grads.values(), expected[1:], strict=True):
        same(gradient, theirs, dtype)


@BOTH
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(keras, tf, name, dtype):
    z = np.concatenate([3 * normal(6, 5, dtype=dtype), np.array([[0, -30, 30, 1e-4, -1e-4]], dtype)])
    c = normal(7, 5, seed=1, dtype=dtype)
    tensor = tf.constant(z)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        y = activation_of(keras, name)(tensor)
        total = tf.reduce_sum(y * c)
    ours, backward = ACTIVATIONS[name](z.copy(), Context(), "a")
    same(ours, y, dtype)
    same(backward(c.copy()), tape.gradient(total, tensor), dtype)


@BOTH
@pytest.mark.parametrize("name", ["gelu", "leaky_relu"])
def test_inexact_activations_are_keras_own_as_far_as_those_are_exact(keras, name, dtype):
    z = 3 * normal(6, 5, dtype=dtype)
    y, _ = ACTIVATIONS[name](z.copy(), Context(), "a")
    np.testing.assert_allclose(y, keras.activations.get(name)(z), rtol=1e-6, atol=5e-7)


def keras_loss(keras, loss, dtype, axes=2):
    """Return the Keras loss, one value a sample or position, that `loss` should be."""
    if loss.name == "log_cosh" and dtype == np.float64:  # Keras takes log(2) in float32
        return lambda t, y: keras.ops.log(keras.ops.cosh(y - t))
    keys = ("delta", "label_smoothing", "gamma", "alpha", "apply_class_balancing")
    options = {key: getattr(loss, key) for key in keys if hasattr(loss, key)}
    if loss.name in ("dice", "iou"):  # of each sample: all axes but the first
        options |= {"axis": tuple(range(1, axes))} | ({"alpha": 1, "beta": 1} if loss.name == "iou" else {})
    return getattr(keras.losses, KERAS_LOSSES[loss.name])(reduction=None, dtype=np.dtype(dtype).name, **options)


@BOTH
@pytest.mark.parametrize(("name", "head", "outputs", "weighted"), LOSSES_BEHIND_HEADS)
def test_loss_behind_each_head(keras, tf, name, head, outputs, weighted, dtype):
    loss = LOSSES[name]
    logits, targets = loss_case(loss, outputs)
    logits = fitting_logits(loss, head, logits).astype(dtype)
    targets = targets if loss.target_kind == "labels" else targets.astype(dtype)
    weights = np.array([0.5, 0, 2, 1, 1, 3], dtype) if weighted else None
    rows = np.eye(outputs[-1], dtype=dtype)[targets] if loss.target_kind == "labels" else targets

    tensor = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        their_outputs = activation_of(keras, head)(tensor)
        if head != loss.fused_head:
            # Keras on TensorFlow takes a sigmoid's logits for a softmax's, and the other way round: hide them from it.
            their_outputs = tf.identity(their_outputs)
        terms = keras_loss(keras, loss, dtype, logits.ndim)(rows, their_outputs)
        terms = tf.reshape(terms, (len(logits), -1))
        if getattr(loss, "ignore_class", None) is not None:
            counted = np.reshape(targets != loss.ignore_class, terms.shape)
            terms = tf.reduce_sum(terms * counted, axis=1) / np.maximum(counted.sum(axis=1), 1)
        else:
            terms = tf.reduce_mean(terms, axis=1)
        expected = tf.reduce_sum(terms if weights is None else terms * weights)

    total, our_outputs, backward = loss.bind(head)(logits, targets, weights, Context())
    same(our_outputs, their_outputs, dtype)
    same(total, expected, dtype)
    same(backward(), tape.gradient(expected, tensor), dtype)


@BOTH
@pytest.mark.parametrize("head", ["softmax", "sigmoid", "linear"])
def test_sparse_crossentropy_is_keras_own(keras, tf, head, dtype):
    logits = 0.2 * abs(normal(6, 4, dtype=dtype)) + dtype(0.1)
    labels = np.array([0, 3, 2, 1, 1, 0])
    tensor = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        outputs = keras.activations.get(head)(tensor)
        terms = keras.losses.sparse_categorical_crossentropy(
            labels, tf.identity(outputs) if head == "sigmoid" else outputs
        )
        expected = tf.reduce_sum(terms)
    total, _, backward = SparseCategoricalCrossentropy().bind(head)(logits, labels, None, Context())
    same(total, expected, dtype)
    same(backward(), tape.gradient(expected, tensor), dtype)


@BOTH
@pytest.mark.parametrize("name", ["binary", "binary_smooth", "categorical", "categorical_smooth", "sparse"])
def test_clipping(keras, tf, name, dtype):
    outputs = np.array([[-0.5, 1.0, 0.2, 2.0], [0.0, 0.0, 0.0, 1.0], [0.3, 0.4, 0.2, 0.1]], dtype)
    rows = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype)
    targets = rows.argmax(axis=1) if LOSSES[name].target_kind == "labels" else rows
    tensor = tf.constant(outputs)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        expected = tf.reduce_sum(keras_loss(keras, LOSSES[name], dtype)(rows, tensor))
    total, _, backward = LOSSES[name].bind("linear")(outputs, targets, None, Context())
    same(total, expected, dtype)
    same(backward(), tape.gradient(expected, tensor), dtype)


@BOTH
def test_a_whole_network(keras, tf, dtype):
    layers = [
        Flatten(name="f"),
        Dense(16, activation="selu", name="a"),
        Residual((LayerNorm(name="n"), Dense(16, activation="gelu", name="b")), name="r"),
        Dense(4, name="c"),
    ]
    model = Model(layers, (2, 3), "softmax", dtype).shake()
    x, labels = normal(32, 2, 3, dtype=dtype), np.arange(32) % 4
    function, variables = to_keras(keras, layers, dtype)
    function(tf.constant(x))
    fill(model, variables)
    with tf.GradientTape() as tape:
        terms = keras.losses.sparse_categorical_crossentropy(labels, function(tf.constant(x)), from_logits=True)
        expected = tf.reduce_sum(terms)
    total = model.step(SparseCategoricalCrossentropy().bind("softmax"), x, labels)
    same(total, expected, dtype)
    theirs = tape.gradient(expected, [variable.value for variable in variables])
    for gradient, their in zip(model.grads.values(), theirs, strict=True):
        same(gradient, their, dtype)

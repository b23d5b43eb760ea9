"""Layers that take ids: embeddings and masks of padding; and the sines of positions."""

from __future__ import annotations

import re

import numpy as np
import pytest

from hpcnn.errors import DataError, ModelError
from hpcnn.nn import (
    Context,
    CrossAttention,
    Dense,
    Embedding,
    Flatten,
    MultiHeadAttention,
    PaddingMask,
    PositionalEmbedding,
)
from hpcnn.nn.layer import Layer
from hpcnn.nn.native import NATIVE, NativeArithmetic
from hpcnn.nn.params import ParamLayout
from hpcnn.nn.plain import NUMPY
from hpcnn.nn.sines import position_sines
from tests.nn.cases.attention import sines
from tests.nn.helpers import Model, check_gradient, normal
from tests.require import require

BOTH = pytest.mark.parametrize("arithmetic", [NATIVE, NUMPY], ids=["native", "numpy"])
ENTRIES, WIDTH = 7, 3
LAYER = Embedding(ENTRIES, WIDTH, name="l")


def passed(arithmetic, x, dy=None, need_dx=False):
    """Return table, y, the gradient of the table and dx."""
    table = normal(ENTRIES, WIDTH)
    ctx = Context(training=True, arithmetic=arithmetic)
    y, backward = LAYER.forward({"l/embeddings": table}, x, ctx)
    gradient = np.full_like(table, np.nan)
    dx = None if dy is None else backward(dy, {"l/embeddings": gradient}, need_dx=need_dx)
    return table, y, gradient, dx


@BOTH
@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.uint8])
@pytest.mark.parametrize("shape", [(5,), (5, 4), (2, 3, 4)])
def test_rows_of_the_table(arithmetic, dtype, shape):
    ids = np.random.default_rng(1).integers(0, ENTRIES, shape).astype(dtype)
    dy = normal(*shape, WIDTH, seed=2)
    table, y, gradient, dx = passed(arithmetic, ids, dy.copy(), need_dx=True)
    one_hot = np.eye(ENTRIES)[ids.astype(int)]
    np.testing.assert_array_equal(y, one_hot @ table)
    np.testing.assert_allclose(gradient, one_hot.reshape(-1, ENTRIES).T @ dy.reshape(-1, WIDTH), rtol=1e-13, atol=1e-13)
    assert dx.shape == shape
    assert not dx.any()
    assert LAYER.output_shape(shape[1:]) == y.shape[1:]


@BOTH
@pytest.mark.parametrize("wrong", [-1, ENTRIES, 2.5, np.nan, np.inf, 1e30, -0.5])
def test_an_id_that_is_none_is_refused(arithmetic, wrong):
    x = np.array([[0.0, 1.0], [wrong, 3.0]])
    message = rf"^layer 'l': {re.escape(str(np.float64(wrong)))} is no id: they must be whole numbers from 0 to 6, one"
    with pytest.raises(DataError, match=message):
        passed(arithmetic, x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_recorded_makes_nan_of_an_id_that_is_none(dtype):
    from hpcnn.kernels import core

    table = normal(ENTRIES, WIDTH, dtype=dtype)
    x = np.array([0, -1, 6, 7, 2.5, np.nan, np.inf, -np.inf, 1e30, -0.0], dtype)
    program = core.Program()
    ctx = Context(training=True, arithmetic=NativeArithmetic(program))
    y, backward = LAYER.forward({"l/embeddings": table}, x, ctx)
    gradient = np.full_like(table, np.nan)
    backward(np.ones((len(x), WIDTH), dtype), {"l/embeddings": (gradient,)}, need_dx=False)
    program.run()
    right = [0, 2, 9]
    np.testing.assert_array_equal(y[right], table[[0, 6, 0]])
    assert np.isnan(np.delete(y, right, axis=0)).all()
    np.testing.assert_array_equal(gradient[:, 0], [2, 0, 0, 0, 0, 0, 1])


def test_training_names_the_id_that_is_none():
    from tests.small_jobs import make_job, train

    layers = [
        {"type": "embedding", "input_dim": 2, "output_dim": 3},
        {"type": "flatten"},
        {"type": "dense", "units": 3, "activation": "softmax"},
    ]
    for arithmetic in ("native", "numpy"):
        job = make_job(data={"scale": None}, model={"layers": layers}, train={"arithmetic": arithmetic})
        with pytest.raises(
            DataError, match=r"layer 'embedding_1': \S+ is no id: they must be whole numbers from 0 to 1"
        ):
            train(job)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_embedding_against_keras(dtype):
    keras, tf = require("keras"), require("tensorflow")
    ids = np.random.default_rng(1).integers(0, ENTRIES, (6, 4))
    layer = keras.layers.Embedding(ENTRIES, WIDTH, dtype=np.dtype(dtype).name)
    layer.build((4,))
    table, dy = normal(ENTRIES, WIDTH, dtype=dtype), normal(6, 4, WIDTH, seed=1, dtype=dtype)
    layer.embeddings.assign(table)
    with tf.GradientTape() as tape:
        y = layer(ids)
        total = tf.reduce_sum(y * dy)
    expected = tf.convert_to_tensor(tape.gradient(total, layer.embeddings.value))
    ours, backward = LAYER.forward({"l/embeddings": table}, ids, Context())
    np.testing.assert_array_equal(ours, y)
    gradient = np.empty_like(table)
    backward(dy, {"l/embeddings": gradient})
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)


@BOTH
def test_padding_mask(arithmetic):
    x = np.array([[0.0, 3.0, -0.0, 1.0, np.nan]])
    y, backward = PaddingMask(name="l").forward({}, x, Context(arithmetic=arithmetic))
    np.testing.assert_array_equal(y, [[0, 1, 0, 1, 1]])
    assert backward(y, {}, need_dx=False) is None
    assert not backward(y, {}).any()
    assert PaddingMask().output_shape((5,)) == (5,)


def test_layers_below_an_embedding_learn_nothing():
    class Rounded(Layer):
        def forward(self, params, x, ctx):
            return np.abs(np.round(x)), lambda dy, grads, *, need_dx=True: dy

    model = Model([Dense(4, name="a"), Rounded(name="r"), Embedding(40, 2, name="l"), Flatten(name="f")], (3,))
    y, backward = model.forward(normal(5, 3))
    backward(np.ones_like(y), model.grads)
    assert not model.grads["a/kernel"].any()
    assert model.grads["l/embeddings"].sum() == y.size


def test_the_check_of_gradients_holds_for_the_table():
    ids = np.array([[0, 1], [1, 1], [6, 2]])
    layout = ParamLayout(LAYER.parameters((2,)))
    c = normal(3, 2, WIDTH, seed=1)

    def function(vector):
        return float(np.vdot(LAYER.forward(layout.views(vector), ids, Context())[0], c))

    vector = normal(layout.size)
    gradient = np.empty_like(vector)
    LAYER.forward(layout.views(vector), ids, Context())[1](c.copy(), layout.gradient_views(gradient))
    check_gradient(function, [vector], [gradient])


@pytest.mark.parametrize(("length", "features"), [(3, 4), (5000, 6), (1, 1), (40, 7)])
def test_sines_of_positions(length, features):
    table = position_sines(length, features, "d")
    np.testing.assert_allclose(table, sines(length, features), atol=length * 4e-16)
    assert table.shape == (length, features)
    assert not table.flags.writeable
    np.testing.assert_array_equal(position_sines(length, features, "f"), table.astype(np.float32))


def test_embeddings_start_as_those_of_keras():
    (spec,) = Embedding(500, 8, name="l").parameters((3,))
    values = spec.initializer(spec.shape, np.random.default_rng(0))
    assert np.abs(values).max() == pytest.approx(0.05, rel=1e-3)


def test_multiply_adds():
    assert Embedding(9, 8).multiply_adds((5,)) == 0
    assert MultiHeadAttention(2, 3).multiply_adds((5, 4)) == 4 * 5 * 4 * 6 + 2 * 5 * 5 * 2 * 3
    inputs = [(5, 4), (7, 3), (7, 2)]
    projections = 5 * 4 * 6 + 7 * 2 * 3 + 7 * 3 * 5 + 5 * 10 * 8
    grouped = CrossAttention(2, 3, value_dim=5, num_kv_heads=1, output_dim=8)
    assert grouped.multiply_adds(inputs) == projections + 5 * 7 * 2 * (3 + 5)


MESSAGES = {
    "input_dim": (lambda: Embedding(0, 3, name="l"), "layer 'l': input_dim must be 1 to 16777216, up to which float32"),
    "too_many": (lambda: Embedding(2**24 + 1, 3, name="l"), "holds each whole number, but is 16777217"),
    "output_dim": (lambda: Embedding(3, 0, name="l"), "layer 'l': output_dim must be at least 1, but is 0"),
    "start": (lambda: Embedding(3, 1, "uniform"), "unknown initializer 'uniform'"),
    "encoding": (
        lambda: PositionalEmbedding("sines", name="l"),
        "layer 'l': encoding must be learned or sinusoidal, but is 'sines'",
    ),
    "positions": (
        lambda: PositionalEmbedding(name="l").output_shape((3,)),
        "layer 'l' needs inputs of shape (length, features), but got (3,). Put an embedding",
    ),
    "mask": (
        lambda: PaddingMask(name="l").output_shape((3, 4)),
        "layer 'l' needs ids of shape (length,), but got (3, 4). Let it follow the ids themselves",
    ),
    "heads": (lambda: MultiHeadAttention(0, 3, name="l"), "layer 'l': num_heads must be at least 1, but is 0"),
    "value_dim": (lambda: MultiHeadAttention(1, 3, -1, name="l"), "layer 'l': value_dim must be at least 1, but is -1"),
    "groups": (
        lambda: MultiHeadAttention(4, 3, num_kv_heads=3, name="l"),
        "layer 'l': num_kv_heads must divide num_heads, 4, but is 3",
    ),
    "kernel": (lambda: MultiHeadAttention(1, 3, kernel_initializer="zero"), "unknown initializer 'zero'"),
    "bias": (lambda: MultiHeadAttention(1, 3, bias_initializer="one"), "unknown initializer 'one'"),
    "sequence": (
        lambda: MultiHeadAttention(1, 3, name="l").output_shape((3,)),
        "layer 'l' needs inputs of shape (length, features), but got (3,). Put an embedding or a dense layer",
    ),
    "inputs": (
        lambda: CrossAttention(1, 3, name="l").output_shape([(5, 4)]),
        "layer 'l' takes a query, a value and, if it is another, a key, each of shape (length, features), and behind "
        "them a mask, if there is one; but its inputs have the shapes (5, 4). For a sequence without a mask",
    ),
    "too_many_inputs": (lambda: CrossAttention(1, 3).output_shape([(5, 4)] * 4), "(5, 4), (5, 4), (5, 4), (5, 4)."),
    "one_axis": (
        lambda: CrossAttention(1, 3, name="l").output_shape([(5,), (5, 4)]),
        "layer 'l' needs inputs of shape (length, features), but got (5,)",
    ),
    "lengths": (
        lambda: CrossAttention(1, 3, name="l").output_shape([(5, 4), (6, 4), (7, 4)]),
        "layer 'l': key and value must be of the same length, but their shapes are (7, 4) and (6, 4)",
    ),
    "mask_length": (
        lambda: CrossAttention(1, 3, name="l").output_shape([(5, 4), (6, 4), (5,)]),
        "layer 'l': its mask must have shape (6,), the length of the key, but has (5,)",
    ),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_messages(case):
    make, message = MESSAGES[case]
    with pytest.raises(ModelError, match=re.escape(message)):
        make()

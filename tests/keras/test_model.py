"""Every layer, activation and loss of the job file in Keras mode, against NumPy mode."""

from __future__ import annotations

import numpy as np
import pytest

from hpcnn.errors import ModelError
from hpcnn.nn import (
    Activation,
    Context,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    Network,
    PaddingMask,
    Residual,
)
from hpcnn.nn.activations import ACTIVATIONS, apply
from hpcnn.nn.loss import Loss
from hpcnn.nn.losses import CTC, MeanSquaredError
from hpcnn.training.step_stats import COUNT, LOSS
from tests.keras.modes import keras_backend
from tests.nn import two_modes
from tests.nn.cases import KERAS_FLOAT32, LAYERS, LOSSES, recurrent
from tests.nn.cases.losses import fitting_logits, loss_case
from tests.nn.helpers import normal
from tests.nn.two_modes import TOLERANCE, check_the_same, same
from tests.require import require

BOTH = pytest.mark.parametrize("dtype", TOLERANCE)
MEAN_SQUARED_ERROR = MeanSquaredError()
HEAD_OF = {"binary": "sigmoid", "categorical": "softmax", "sparse": "softmax", "kl": "softmax", "dice": "sigmoid",
           "iou": "sigmoid", "poisson": "softplus"}  # fmt: skip
HEADS = ("linear", "sigmoid", "softmax", "softplus")


@pytest.fixture(scope="module", autouse=True)
def backend():
    with keras_backend() as started:
        yield started


@pytest.fixture(scope="module")
def tf(backend):
    return require("tensorflow")


def model_of(network, loss, sums, vector):
    """Return the model of a network in Keras mode."""
    from hpcnn.backends.keras.layers import to_keras
    from hpcnn.backends.keras.model import KerasModel
    from hpcnn.backends.keras.network import KerasNetwork

    dtype = str(vector.dtype)
    model, names = to_keras(network, dtype)
    built = KerasNetwork(model, names, network.layout, network.input_shape, dtype, "test")
    assert built.output_shape == network.output_shape
    return KerasModel(built, loss, sums, vector)


def replicas_of(network, dtype, loss=None):
    return two_modes.replicas_of(network, dtype, model_of, loss)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        (name, dtype)
        for place, name in enumerate(LAYERS)
        for dtype in TOLERANCE
        # Keras is slow to build these: the types take turns
        if name not in recurrent.LAYERS or (place % 2 == (dtype == "float64") and name not in recurrent.RARE)
    ],
)
def test_layer(name: str, dtype: str) -> None:
    if name in KERAS_FLOAT32 and dtype == "float64":
        with pytest.raises(
            ModelError, match=r"layer 'l': TensorFlow pools volumes in float32 alone\. Set train\.dtype"
        ):
            replicas_of(two_modes.network_with(name), dtype)
        return
    two_modes.train_with_layer(name, dtype, model_of)


@pytest.mark.parametrize("head", ACTIVATIONS)
def test_head_and_frozen_layer(head: str) -> None:
    dtype = "float64"
    layers = [Dense(5, activation="tanh", name="a"), Dense(4, trainable=False, name="frozen"), Dense(3, name="b")]
    ours, theirs = replicas_of(Network(layers, (4,), head), dtype)
    before = theirs.weights()["frozen/kernel"]
    check_the_same(ours, theirs, dtype)
    np.testing.assert_array_equal(theirs.weights()["frozen/kernel"], before)
    assert theirs.model.network.head == (head if head in ("softmax", "sigmoid") else "linear")


@BOTH
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(tf, name: str, dtype: str) -> None:
    from hpcnn.backends.keras.layers import activation

    z = np.concatenate([3 * normal(6, 5), np.array([[0, -30, 30, 1e-4, -1e-4]])]).astype(dtype)
    same(apply(name, z), activation(name)(tf.constant(z)), dtype)


@pytest.mark.parametrize(("outputs", "dtype"), [((3,), "float32"), ((2, 4), "float64")], ids=str)
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", LOSSES)
def test_loss_behind_each_head(tf, name: str, head: str, outputs: tuple[int, ...], dtype: str) -> None:
    loss = LOSSES[name]
    logits, targets = loss_case(loss, outputs)
    logits = fitting_logits(loss, head, logits)
    check_loss(tf, loss, head, logits.astype(dtype), targets, dtype)


@BOTH
@pytest.mark.parametrize("name", LOSSES)
def test_training_with_each_loss(name: str, dtype: str) -> None:
    two_modes.train_with_loss(name, dtype, model_of)


@pytest.mark.parametrize("head", ["softmax", "linear"])
def test_rows_that_do_not_sum_to_1(tf, head: str) -> None:
    loss = LOSSES["categorical_smooth"]
    logits, targets = loss_case(loss, (4,))
    check_loss(tf, loss, head, 0.2 * abs(logits) + 0.1, 0.7 * targets, "float64")


@pytest.mark.parametrize("head", ["softmax", "linear"])
def test_ctc(tf, head: str) -> None:
    labels = np.array([[1, 2, 2, 0], [3, 0, 0, 0], [1, 3, 1, 2], [0, 0, 0, 0], [2, 2, -1, -1], [3, 1, 0, 0]])
    check_loss(tf, CTC(), head, normal(6, 9, 4, dtype=np.float32), labels, "float32")


@pytest.mark.parametrize("head", ["softmax", "linear"])
def test_training_with_ctc(head: str) -> None:
    network = Network([Dense(5, activation="tanh", name="a"), Dense(4, name="b")], (7, 3), head)
    labels = np.array([[1, 2, 2, 0], [3, 0, 0, 0], [1, 3, 1, 2], [0, 0, 0, 0], [2, 2, -1, -1], [3, 1, 0, 0]])
    check_the_same(*replicas_of(network, "float32", CTC()), "float32", labels, steps=3)


def check_loss(tf, loss: Loss, head: str, logits, targets, dtype: str) -> None:
    """Compare loss and gradient of six samples with weights."""
    from hpcnn.backends.keras.graphs import trace
    from hpcnn.backends.keras.layers import activation
    from hpcnn.backends.keras.losses import sample_losses, sum_of

    targets = targets if loss.target_kind != "values" else targets.astype(dtype)
    weights = np.array([0.5, 0, 2, 1, 1, 3], dtype)

    def graph(z, y, w):
        with tf.GradientTape() as tape:
            tape.watch(z)
            losses = sample_losses(loss, activation(head)(z), y)
        return sum_of(losses, w), tape.gradient(losses, z, w)

    arguments = [tf.constant(array) for array in (logits, targets, weights)]
    signature = [tf.TensorSpec([None, *each.shape[1:]], each.dtype) for each in arguments]
    theirs, gradient = trace(graph, signature)(*arguments)
    total, _, backward = loss.bind(head)(logits, targets, weights, Context())
    same(total, theirs, dtype)
    same(backward(), gradient, dtype)


def test_dropout_depends_on_the_key_alone() -> None:
    network = Network([Dense(400, activation="linear", name="a"), Dropout(0.3, name="d")], (4,))
    _, replica = replicas_of(network, "float32")
    x = normal(50, 4, dtype=np.float32)
    outputs = {
        key: np.asarray(replica.model._call(key, x, np.zeros((50, 400), np.float32), None)[2])
        for key in [(0, 4, 0, 0), (0, 4, 0, 1), (0, 4, 1, 0), (1, 4, 0, 0)]
    }
    again = np.asarray(replica.model._call((0, 4, 0, 1), x, np.zeros((50, 400), np.float32), None)[2])
    np.testing.assert_array_equal(outputs[0, 4, 0, 1], again)
    dropped = {key: out == 0 for key, out in outputs.items()}
    for mask in dropped.values():
        assert mask.mean() == pytest.approx(0.3, abs=0.01)
    masks = list(dropped.values())
    for mask, other in zip(masks, [*masks[1:], masks[0]], strict=True):
        assert (mask & other).mean() == pytest.approx(0.09, abs=0.01)
    kept = ~dropped[0, 4, 0, 0]
    np.testing.assert_allclose(outputs[0, 4, 0, 0][kept], replica.model.predict_piece(x)[kept] / 0.7, rtol=1e-5)


def test_two_generators_of_one_model_draw_apart() -> None:
    layers = [
        Activation("linear", name="a"),
        Dropout(0.5, name="d"),
        Residual((Dropout(0.5, name="e"),), name="r"),
        Dense(1, name="b"),
    ]
    _, replica = replicas_of(Network(layers, (1000,)), "float32")
    seeds = np.asarray(replica.model._seeds((0, 4, 0, 0)))
    assert seeds.shape == (2, 2)
    assert len(np.unique(seeds)) == 4


def test_a_layer_of_ones_own_is_refused() -> None:
    from hpcnn.errors import ModelError

    class Own(Activation):
        pass

    network = Network([Own("relu", name="mine"), Dense(1, name="b")], (3,))
    with pytest.raises(ModelError, match=r"layer 'mine' is a Own, which NumPy mode has and Keras mode has not"):
        replicas_of(network, "float32")


def test_sums_count_samples() -> None:
    ours, theirs = replicas_of(Network([Dense(2, name="a")], (3,)), "float32")
    x, y = normal(7, 3, dtype=np.float32), normal(7, 2, dtype=np.float32)
    sums = theirs.model.eval_piece(x, y)
    assert sums[COUNT] == 7
    assert sums[LOSS] == pytest.approx(np.square(ours.model.predict_piece(x) - y).mean(axis=1).sum(), rel=1e-5)


@BOTH
def test_layers_that_take_ids(dtype: str) -> None:
    ids = np.random.default_rng(1).integers(0, 9, (6, 5)).astype(dtype)
    for first in (Embedding(9, 4, name="e"), PaddingMask(name="m")):
        network = Network([first, Flatten(name="f"), Dense(3, name="d")], (5,))
        check_the_same(*replicas_of(network, dtype), dtype, x=ids)

"""Values of the losses, how they sum, and what they refuse. Their gradients are in test_gradients.py."""

from __future__ import annotations

import math
import re
import tracemalloc

import numpy as np
import pytest

from hpcnn.errors import DataError, ModelError
from hpcnn.nn import Context
from hpcnn.nn.activations import ACTIVATIONS, apply
from hpcnn.nn.losses import (
    CTC,
    LOSSES,
    BinaryCrossentropy,
    BinaryFocalCrossentropy,
    CategoricalCrossentropy,
    CategoricalFocalCrossentropy,
    Contrastive,
    CosineSimilarity,
    Dice,
    Hinge,
    Huber,
    IoU,
    KLDivergence,
    LogCosh,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    Poisson,
    SparseCategoricalCrossentropy,
)
from hpcnn.nn.native import NATIVE
from hpcnn.nn.plain import NUMPY
from tests.nn.cases import LOSSES as CASES
from tests.nn.cases.losses import fitting_logits, loss_case
from tests.nn.helpers import LARGE_BYTES, normal

LOG2, LOG3 = math.log(2), math.log(3)
VALUES = {
    "mse": (MeanSquaredError(), "linear", [[1.0, 5.0]], [[2.0, 2.0]], 5.0),
    "mae": (MeanAbsoluteError(), "linear", [[1.0, 5.0]], [[2.0, 2.0]], 2.0),
    "huber": (Huber(), "linear", [[1.5, 5.0]], [[2.0, 2.0]], (0.125 + 2.5) / 2),
    "huber_2": (Huber(delta=2.0), "linear", [[1.0, 5.0]], [[2.0, 2.0]], (0.5 + 4.0) / 2),
    "binary": (BinaryCrossentropy(), "sigmoid", [[0.0, -LOG3]], [[1.0, 1.0]], (LOG2 + math.log(4)) / 2),
    "binary_smooth": (
        BinaryCrossentropy(0.5),
        "sigmoid",
        [[LOG3]],
        [[1.0]],
        0.75 * math.log(4 / 3) + 0.25 * math.log(4),
    ),
    "binary_outputs": (BinaryCrossentropy(), "linear", [[0.5, 0.25]], [[1.0, 1.0]], (LOG2 + math.log(4)) / 2),
    "categorical": (CategoricalCrossentropy(), "softmax", [[0.0, LOG3]], [[1.0, 0.0]], math.log(4)),
    "categorical_outputs": (CategoricalCrossentropy(), "linear", [[1.0, 3.0]], [[1.0, 0.0]], math.log(4)),
    "categorical_smooth": (
        CategoricalCrossentropy(0.5),
        "softmax",
        [[0.0, LOG3]],
        [[1.0, 0.0]],
        0.75 * math.log(4) + 0.25 * math.log(4 / 3),
    ),
    "mape": (MeanAbsolutePercentageError(), "linear", [[1.0, 5.0]], [[2.0, -2.5]], (50 + 300) / 2),
    "msle": (MeanSquaredLogarithmicError(), "linear", [[1.0, 2.0]], [[3.0, 2.0]], LOG2**2 / 2),
    "log_cosh": (LogCosh(), "linear", [[LOG2, 800.0]], [[0.0, 0.0]], (math.log(1.25) + 800 - LOG2) / 2),
    "poisson": (Poisson(), "linear", [[1 - 1e-7, 0.5]], [[3.0, 0.0]], 0.75 - 0.5e-7),
    "hinge": (Hinge(), "linear", [[0.25, 0.25, 2.0]], [[1.0, 0.0, 1.0]], (0.75 + 1.25) / 3),
    "binary_focal": (
        BinaryFocalCrossentropy(),
        "linear",
        [[0.5, 0.25]],
        [[1.0, 0.0]],
        (0.25 * LOG2 + 0.0625 * math.log(4 / 3)) / 2,
    ),
    "binary_focal_balanced": (
        BinaryFocalCrossentropy(gamma=1, apply_class_balancing=True),
        "linear",
        [[0.5, 0.25]],
        [[1.0, 0.0]],
        (0.125 * LOG2 + 0.1875 * math.log(4 / 3)) / 2,
    ),
    "categorical_focal": (
        CategoricalFocalCrossentropy(alpha=0.5),
        "linear",
        [[1.0, 3.0]],
        [[1.0, 0.0]],
        0.5 * 0.5625 * math.log(4),
    ),
    "kl": (KLDivergence(), "linear", [[0.25, 0.5]], [[0.5, 0.5]], LOG2 / 2),
    "cosine": (CosineSimilarity(), "linear", [[3.0, 4.0]], [[5.0, 0.0]], -0.6),
    "dice": (Dice(), "linear", [[0.5, 1.0, 0.5]], [[1.0, 1.0, 0.0]], 1 - 3 / (4 + 1e-7)),
    "iou": (IoU(), "linear", [[0.5, 1.0, 0.5]], [[1.0, 1.0, 0.0]], 1 - 1.5 / (2.5 + 1e-7)),
    "ignoring": (
        SparseCategoricalCrossentropy(ignore_class=255),
        "softmax",
        [[[0.0, LOG3], [5.0, 1.0], [0.0, 0.0]]],
        [[0, 255, 1]],
        (math.log(4) + LOG2) / 2,
    ),
    "ignoring_all": (SparseCategoricalCrossentropy(ignore_class=-1), "softmax", [[0.0, LOG3]], [-1], 0.0),
    "sparse": (SparseCategoricalCrossentropy(), "softmax", [[0.0, LOG3]], [0], math.log(4)),
    "sparse_outputs": (SparseCategoricalCrossentropy(), "linear", [[1.0, 3.0]], [1], math.log(4 / 3)),
}


def call(loss, head, logits, targets, weights=None):
    return loss.bind(head)(np.array(logits), np.array(targets), weights, Context())


@pytest.mark.parametrize("case", VALUES)
def test_values(case):
    loss, head, logits, targets, expected = VALUES[case]
    total, outputs, _ = call(loss, head, logits, targets)
    assert isinstance(total, float)
    assert total == pytest.approx(expected, rel=1e-14)
    np.testing.assert_allclose(outputs, apply(head, logits), rtol=1e-15)
    twice, _, _ = call(loss, head, logits * 2, targets * 2)
    assert twice == pytest.approx(2 * expected, rel=1e-14), "the sum over samples, not the mean"


def test_every_loss_has_a_value_and_a_case():
    assert (
        {type(case[0]) for case in VALUES.values()}
        == set(LOSSES.values()) - {CTC, Contrastive}  # which have tests of their own
        == {type(loss) for loss in CASES.values()}
    )
    assert all(cls.name == name for name, cls in LOSSES.items())


@pytest.mark.parametrize("name", CASES)
def test_each_weight_multiplies_its_samples_loss_and_gradient(name):
    loss = CASES[name].bind("softmax")
    logits, targets = loss_case(loss.loss, (3,))
    weights = np.array([0.5, 0.0, 2.0, 1.0, 1.0, 3.0])
    total, _, backward = loss(logits, targets, weights, Context())
    gradient = backward()
    parts = [loss(logits[i : i + 1], targets[i : i + 1], None, Context()) for i in range(6)]
    assert total == pytest.approx(sum(w * part[0] for w, part in zip(weights, parts, strict=True)), rel=1e-13)
    for i, part in enumerate(parts):
        np.testing.assert_allclose(gradient[i], weights[i] * part[2]()[0], rtol=1e-12)


@pytest.mark.parametrize("name", ["sparse", "sparse_smooth"])
@pytest.mark.parametrize("outputs", [(3,), (2, 4)], ids=str)
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_labels_are_their_one_hot_rows(name, head, outputs):
    sparse = CASES[name]
    logits, labels = loss_case(sparse, outputs)
    rows = np.eye(outputs[-1])[labels]
    first = sparse.bind(head)(logits, labels, None, Context())
    second = CategoricalCrossentropy(sparse.label_smoothing).bind(head)(logits, rows, None, Context())
    assert first[0] == pytest.approx(second[0], rel=1e-14)
    np.testing.assert_allclose(first[2](), second[2](), atol=1e-15)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.int64, np.uint64, ">i4"])
def test_labels_of_any_integer_type(dtype):
    loss = SparseCategoricalCrossentropy().bind("softmax")
    total, _, backward = loss(np.zeros((2, 4)), np.array([3, 0], dtype), None, Context())
    assert total == pytest.approx(2 * math.log(4))
    np.testing.assert_allclose(backward(), [[0.25, 0.25, 0.25, -0.75], [-0.75, 0.25, 0.25, 0.25]])


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("ignored", [-1, 0, 255])
def test_what_is_ignored_has_no_gradient_and_no_share_whatever_is_there(head, ignored):
    loss = SparseCategoricalCrossentropy(ignore_class=ignored).bind(head)
    logits, labels = normal(4, 5, 3), np.random.default_rng(0).integers(1, 3, (4, 5))
    left_out = np.random.default_rng(1).random((4, 5)) < 0.4
    left_out[3] = True
    labels[left_out] = ignored
    gradients = []
    for value in (7.0, np.nan if head == "softmax" else 300.0):
        for arithmetic in (NUMPY, NATIVE):
            logits[left_out] = value
            ctx = Context(arithmetic=arithmetic)
            total, _, backward = loss(logits, labels, None, ctx)
            gradients.append(np.array(backward()))
            counted = [loss(logits[i][~left_out[i]], labels[i][~left_out[i]], None, Context())[0] for i in range(3)]
            means = [each / np.count_nonzero(~left_out[i]) for i, each in enumerate(counted)]
            assert total == pytest.approx(sum(means), rel=1e-12)
    for gradient in gradients:
        assert not gradient[left_out].any()
        np.testing.assert_allclose(gradient, gradients[0], atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_])
def test_values_of_any_number_type(dtype):
    targets = np.array([[1, 0], [0, 1]], dtype)
    total, _, backward = CategoricalCrossentropy().bind("softmax")(np.zeros((2, 2)), targets, None, Context())
    assert total == pytest.approx(2 * LOG2)
    np.testing.assert_allclose(backward(), [[-0.5, 0.5], [0.5, -0.5]])


@pytest.mark.parametrize("weights", [None, np.ones(2**17, np.float32)], ids=["plain", "weighted"])
def test_the_sum_is_taken_in_float64(weights):
    n = 2**17
    outputs = np.full((n, 1), 0.1, np.float32)
    total, _, _ = MeanSquaredError().bind("linear")(outputs, np.zeros((n, 1), np.float32), weights, Context())
    assert total == pytest.approx(n * float(np.float32(0.1) ** 2), rel=1e-12)


@pytest.mark.parametrize("head", ACTIVATIONS)
@pytest.mark.parametrize("name", CASES)
@np.errstate(all="ignore")  # logarithms of outputs below 0
def test_outputs_are_those_of_the_head_and_logits_stay(name, head):
    loss = CASES[name].bind(head)
    logits, targets = loss_case(loss.loss, (3,))
    before, targets_before = logits.copy(), targets.copy()
    _, outputs, backward = loss(logits, targets, None, Context())
    np.testing.assert_allclose(outputs, apply(head, before), rtol=1e-14)
    backward()
    np.testing.assert_array_equal(logits, before)
    np.testing.assert_array_equal(targets, targets_before)


@pytest.mark.parametrize("name", CASES)
def test_an_empty_piece_adds_nothing(name):
    loss = CASES[name].bind("softmax")
    targets = np.empty((0,), int) if loss.target_kind == "labels" else np.empty((0, 3))
    total, outputs, backward = loss(np.empty((0, 3)), targets, np.empty(0), Context())
    assert total == 0
    assert outputs.shape == backward().shape == (0, 3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_from_logits_is_exact_far_out(dtype):
    z = np.array([[300.0, -300.0]], dtype)
    total, _, backward = CategoricalCrossentropy().bind("softmax")(z, np.array([[0, 1]]), None, Context())
    assert total == 600
    assert backward().tolist() == [[1, -1]]
    total, _, backward = BinaryCrossentropy().bind("sigmoid")(z, np.array([[0, 1]]), None, Context())
    assert total == 300
    assert backward().tolist() == [[0.5, -0.5]]
    total, _, _ = BinaryCrossentropy().bind("sigmoid")(z / 10, np.array([[1, 0]]), None, Context())
    assert total == pytest.approx(math.exp(-30), rel=1e-5)


CLIPPED = ("kl", "msle")
"""Losses in which an infinite output counts as a limit."""


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", CASES)
@np.errstate(all="ignore")
def test_what_is_not_finite_shows_in_the_loss(name, value):
    for head in ("linear", "sigmoid", "softmax"):
        loss = CASES[name].bind(head)
        logits, targets = loss_case(loss.loss, (3,))
        total, _, backward = loss(np.full_like(logits, value), targets, None, Context())
        backward()
        assert not np.isfinite(total) or head == "sigmoid" or "crossentropy" in loss.loss.name or name in CLIPPED


@pytest.mark.parametrize("head", ["linear", "sigmoid", "softmax", "tanh"])
@pytest.mark.parametrize("name", CASES)
def test_a_steady_call_allocates_nothing_large(name, head):
    loss, ctx = CASES[name].bind(head), Context()
    logits, targets = loss_case(loss.loss, (400,), n=256)
    logits = fitting_logits(loss.loss, head, logits)
    weights = np.ones(256)
    loss(logits, targets, weights, ctx)[2]()
    tracemalloc.start()
    try:
        loss(logits, targets, weights, ctx)[2]()
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        loss(logits, targets, weights, ctx)[2]()
        assert tracemalloc.get_traced_memory()[1] - before < LARGE_BYTES
    finally:
        tracemalloc.stop()


def test_target_kinds():
    assert {name for name, cls in LOSSES.items() if cls.target_kind == "labels"} == {"sparse_categorical_crossentropy"}
    assert {name for name, cls in LOSSES.items() if cls.target_kind == "sequences"} == {"ctc"}
    assert {name for name, cls in LOSSES.items() if cls.target_kind == "any"} == {"contrastive"}
    assert SparseCategoricalCrossentropy().bind("softmax").target_kind == "labels"


Z = np.zeros((4, 3))
SPARSE, MSE = SparseCategoricalCrossentropy(), MeanSquaredError()
DATA_MESSAGES = {
    "shape": (
        MSE,
        np.zeros((4, 2)),
        None,
        "the loss 'mse' needs targets of shape (4, 3) for outputs of shape (4, 3), but",
    ),
    "rank": (MSE, np.zeros(4), None, "but they have (4,)"),
    "count": (MSE, np.zeros((5, 3)), None, "but they have (5, 3)"),
    "one_hot": (
        SPARSE,
        np.zeros((4, 3), int),
        None,
        "needs targets of shape (4,) for outputs of shape (4, 3), but they",
    ),
    "float": (
        SPARSE,
        np.zeros(4),
        None,
        "'sparse_categorical_crossentropy' needs integer labels, but they are float64",
    ),
    "high": (
        SPARSE,
        np.array([0, 1, 3, 2]),
        None,
        "the labels of 3 classes are 0 to 2, but one is 3. Give the last layer",
    ),
    "negative": (SPARSE, np.array([0, -1, 1, 2]), None, "the labels of 3 classes are 0 to 2, but one is -1."),
    "negative_short": (
        SPARSE,
        np.array([0, -1, 1, 2], ">i2"),
        None,
        "the labels of 3 classes are 0 to 2, but one is -1.",
    ),
    "beside_ignored": (
        SparseCategoricalCrossentropy(ignore_class=-1),
        np.array([0, -1, 1, 7]),
        None,
        "the labels of 3 classes are 0 to 2 (or -1, which is ignored), but one is 7. Give the last layer",
    ),
    "weights": (MSE, Z, np.ones((4, 1)), "weights have shape (4, 1), but 4 samples need (4,)"),
}


@pytest.mark.parametrize("case", DATA_MESSAGES)
def test_messages_on_data(case):
    loss, targets, weights, message = DATA_MESSAGES[case]
    with pytest.raises(DataError, match=re.escape(message)):
        loss.bind("linear")(Z, targets, weights, Context())


MODEL_MESSAGES = {
    "delta": (lambda: Huber(delta=0), "the loss 'huber' needs a delta above 0, but it is 0"),
    "smoothing": (lambda: BinaryCrossentropy(1.0), "needs a label_smoothing of at least 0 and below 1, but it is 1.0"),
    "smoothing_low": (lambda: SparseCategoricalCrossentropy(-0.1), "of at least 0 and below 1, but it is -0.1"),
    "gamma": (lambda: BinaryFocalCrossentropy(gamma=-1.0), "needs a gamma of at least 0, but it is -1.0"),
    "alpha": (lambda: CategoricalFocalCrossentropy(alpha=0.0), "needs an alpha above 0, at most 1, but it is 0.0"),
    "focal_class": (
        lambda: CategoricalFocalCrossentropy().check_output((1,), "sigmoid"),
        "the loss 'categorical_focal_crossentropy' needs one output for each class, two at least",
    ),
    "head": (lambda: MSE.bind("sofmax"), "unknown activation 'sofmax'. Did you mean 'softmax'?"),
    "no_axis": (lambda: MSE.check_output((), "linear"), "the loss 'mse' needs outputs with at least one axis"),
    "one_softmax": (
        lambda: MSE.check_output((1,), "softmax"),
        "a softmax of one unit is always 1, so that nothing can",
    ),
    "one_class": (
        lambda: SPARSE.check_output((1,), "sigmoid"),
        "needs one output for each class, two at least, but the",
    ),
    "one_hot_class": (
        lambda: CategoricalCrossentropy().check_output((1,), "sigmoid"),
        "the network's output shape is (1,). For two classes and one output use 'binary_crossentropy' with activ",
    ),
}


@pytest.mark.parametrize("case", MODEL_MESSAGES)
def test_messages_on_models(case):
    make, message = MODEL_MESSAGES[case]
    with pytest.raises(ModelError, match=re.escape(message)):
        make()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("head", ACTIVATIONS)
def test_all_else_goes_together(name, head):
    CASES[name].check_output((3,), head)
    CASES[name].check_output((2, 3), head)


def test_one_sigmoid_goes_with_binary_crossentropy():
    BinaryCrossentropy().check_output((1,), "sigmoid")

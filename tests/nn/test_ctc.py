"""CTC: against sums over all alignments, TensorFlow, finite differences; what it refuses."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest

from hpcnn.errors import DataError, ModelError
from hpcnn.nn import Context
from hpcnn.nn.losses import CTC
from hpcnn.nn.native import NATIVE
from tests.nn.helpers import check_gradient, normal
from tests.require import require

LABELS = np.array([[1, 2, 2, 0], [3, 0, 0, 0], [1, 3, 1, 2], [0, 0, 0, 0], [2, 2, -1, -1]])
"""A repeated label, one, as many as there is room for, none, and the other padding."""
HEADS = ("softmax", "linear")


def case(steps=6, classes=4, dtype=np.float64):
    return 2 * normal(len(LABELS), steps, classes, dtype=dtype), LABELS


def by_all_alignments(logits, labels):
    """Return the loss of one sample as the definition has it."""
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    steps, classes = p.shape
    wanted = [label for label in labels if label > 0]
    total = 0.0
    for path in itertools.product(range(classes), repeat=steps):
        if [c for c, _ in itertools.groupby(path) if c] == wanted:
            total += math.prod(p[step, c] for step, c in enumerate(path))
    return -math.log(total)


@pytest.mark.parametrize("head", HEADS)
def test_it_is_the_sum_over_all_alignments(head):
    logits, labels = case()
    expected = [by_all_alignments(*each) for each in zip(logits, labels, strict=True)]
    for arithmetic in (Context().arithmetic, NATIVE):
        ctx = Context(arithmetic=arithmetic)
        terms, outputs, _ = ctx.arithmetic.loss(ctx, CTC().bind(head), logits, labels, None)
        np.testing.assert_allclose(terms, expected, rtol=1e-12)
        assert head == "softmax" or outputs is logits
        np.testing.assert_allclose(outputs.sum(axis=-1) == pytest.approx(1), head == "softmax")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("head", HEADS)
def test_both_arithmetics_compute_the_same(head, dtype):
    logits, labels = case(steps=20, dtype=dtype)
    weights = np.array([0.5, 0, 2, 1, 3], dtype)
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    ours, theirs = (
        CTC().bind(head)(logits, labels, weights, Context(arithmetic=each)) for each in (NATIVE, Context().arithmetic)
    )
    assert ours[0] == pytest.approx(theirs[0], rel=tolerance)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(ours[2](), theirs[2](), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("arithmetic", [Context().arithmetic, NATIVE], ids=["numpy", "native"])
def test_gradient(arithmetic, head, weighted):
    logits, labels = case()
    weights = np.array([0.5, 0, 2, 1, 3]) if weighted else None
    loss = CTC().bind(head)
    gradient = loss(logits, labels, weights, Context(arithmetic=arithmetic))[2]()
    check_gradient(
        lambda z: loss(z, labels, weights, Context(arithmetic=arithmetic))[0], [logits], [np.array(gradient)]
    )


@pytest.mark.parametrize("classes", [4, 30])
@pytest.mark.parametrize("steps", [6, 40])
def test_values_and_gradients_are_those_of_tensorflow(steps, classes):
    """It computes in float32, and so does Keras, which calls it."""
    keras, tf = require("keras"), require("tensorflow")
    logits, labels = case(steps, classes, np.float32)
    padded = np.maximum(labels, 0)
    tensor = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        terms = keras.losses.ctc(padded, tensor)
        total = tf.reduce_sum(terms)
    ctx = Context(arithmetic=NATIVE)
    ours, _, backward = ctx.arithmetic.loss(ctx, CTC().bind("softmax"), logits, labels, None)
    np.testing.assert_allclose(ours, terms, rtol=1e-5)
    np.testing.assert_allclose(backward(), tape.gradient(total, tensor), rtol=1e-4, atol=1e-5)


def test_it_is_exact_where_probabilities_underflow():
    logits = np.zeros((1, 300, 3))
    logits[..., 0] = 40.0  # blanks
    loss, _, backward = CTC().bind("softmax")(logits, np.ones((1, 20), int), None, Context(arithmetic=NATIVE))
    assert 20 * 40 - 80 < loss < 20 * 40  # less the number of places to put them
    assert np.isfinite(backward()).all()


def test_labels_of_any_integer_type():
    logits, labels = case()
    expected = CTC().bind("softmax")(logits, labels, None, Context(arithmetic=NATIVE))[0]
    for dtype in (np.int8, np.int32, ">i2"):
        assert CTC().bind("softmax")(logits, labels.astype(dtype), None, Context(arithmetic=NATIVE))[0] == expected
    apart = np.asfortranarray(labels)
    assert CTC().bind("softmax")(logits, apart, None, Context(arithmetic=NATIVE))[0] == expected


def test_no_samples_and_no_room_for_labels():
    for arithmetic in (Context().arithmetic, NATIVE):
        loss, outputs, backward = CTC().bind("softmax")(
            np.empty((0, 3, 4)), np.empty((0, 2), int), None, Context(arithmetic=arithmetic)
        )
        assert loss == 0
        assert outputs.shape == backward().shape == (0, 3, 4)
        loss, _, _ = CTC().bind("softmax")(
            np.zeros((2, 3, 4)), np.empty((2, 0), int), None, Context(arithmetic=arithmetic)
        )
        assert loss == pytest.approx(2 * 3 * math.log(4))


MESSAGES = {
    "rank": (lambda: CTC().check_output((4,), "softmax"), ModelError, "'ctc' needs outputs of shape (steps, classes)"),
    "one class": (lambda: CTC().check_output((5, 1), "linear"), ModelError, "with two classes at least, of which clas"),
    "head": (lambda: CTC().check_output((5, 3), "relu"), ModelError, "the network ends in activation 'relu'. End it"),
    "targets": (lambda: call(np.array([1, 2])), DataError, "'ctc' needs targets of shape (2, 2) for outputs of shape"),
    "rows": (lambda: call(np.ones((2, 3))), DataError, "the loss 'ctc' needs integer labels, but they are float64"),
    "class": (
        lambda: call(np.array([[1, 4], [0, 0]])),
        DataError,
        "4 classes are 1 to 3, with 0 for the blank and for",
    ),
}


def call(targets):
    return CTC().bind("softmax")(np.zeros((2, 5, 4)), targets, None, Context())


@pytest.mark.parametrize("name", MESSAGES)
def test_messages(name):
    make, error, message = MESSAGES[name]
    with pytest.raises(error, match=re.escape(message)):
        make()

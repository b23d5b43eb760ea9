"""Losses: the same bits in all variants, and the mathematics of NumPy's side."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcnn.nn.context import Context
from hpcnn.nn.losses import LOSSES
from hpcnn.nn.native.base import CODES
from hpcnn.nn.native.loss import LOSS_CODES
from hpcnn.nn.plain import NUMPY
from tests.kernels.structures import CONSTANTS
from tests.kernels.test_functions import DTYPES, few, numbers


def test_the_codes_are_those_of_the_core():
    # The contrastive loss is made of operations of its own.
    codes = {name.upper(): code for name, code in LOSS_CODES.items() if name != "contrastive"}
    assert codes.items() <= CONSTANTS.items()
    assert LOSS_CODES.keys() == LOSSES.keys()


def losses(core, name, inputs, targets, weights, *, from_logits, smoothing=0.0, delta=0.7, **more):
    n, classes = len(inputs), inputs.shape[-1]
    positions = inputs[0].size // classes if n else 1
    outputs, gradient, terms = np.full_like(inputs, np.nan), np.full_like(inputs, np.nan), np.full(n, np.nan)
    core.run(
        "loss", inputs.dtype, n, kind=LOSS_CODES[name], from_logits=int(from_logits), samples=n, positions=positions,
        classes=classes, inputs=inputs, targets=targets, weights=weights, outputs=outputs, gradient=gradient,
        terms=terms, label_smoothing=smoothing, delta=delta, **more,
    )  # fmt: skip
    return terms, outputs, gradient


def loss_settings(name, smoothing, gamma):
    """Return the settings of a loss in Python, and as the core takes them."""
    ours, core = ({"label_smoothing": smoothing}, {"smoothing": smoothing}) if "crossentropy" in name else ({}, {})
    if name == "huber":
        ours = {"delta": 0.7}
    if "focal" in name:
        ours |= {"gamma": gamma, "alpha": 0.3}
        core |= {"gamma": gamma, "alpha": 0.3}
        if name.startswith("binary"):
            ours |= {"apply_class_balancing": gamma > 1}
            core |= {"alpha": 0.3 if gamma > 1 else -1.0}
    return ours, core


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "from_logits"),
    [(name, from_logits) for name, loss in LOSSES.items() for from_logits in (False, True)
     if name not in ("ctc", "contrastive") and (loss.fused_head or not from_logits)],
)  # fmt: skip
@few
@given(n=st.integers(1, 5), positions=st.sampled_from([1, 2, 3, 9, 19]), classes=st.sampled_from([2, 3, 16, 17, 40]),
       seed=st.integers(0, 99), smoothing=st.sampled_from([0.0, 0.2]), gamma=st.sampled_from([0.0, 0.5, 2.0]),
       ignore=st.sampled_from([None, 1, -1]))  # fmt: skip
def test_losses(cores, name, dtype, from_logits, n, positions, classes, seed, smoothing, gamma, ignore):
    loss = LOSSES[name]
    rng = np.random.default_rng(seed)
    positive = "crossentropy" in name or name in ("kl_divergence", "poisson", "dice", "iou")
    settings_, more = loss_settings(name, smoothing, gamma)
    inputs = numbers((n, positions, classes), dtype, seed)
    if positive and not from_logits:
        inputs = rng.uniform(0.01, 0.99, inputs.shape).astype(dtype)
    labels = rng.integers(0, classes, (n, positions))
    targets = labels if name.startswith("sparse") else rng.dirichlet(np.ones(classes), (n, positions)).astype(dtype)
    if name.startswith("sparse") and ignore is not None:
        targets[rng.random(targets.shape) < 0.5] = ignore
        settings_, more = settings_ | {"ignore_class": ignore}, more | {"ignores": 1, "ignore": ignore}
    bound = loss(**settings_).bind(loss.fused_head if from_logits else "linear")
    weights = rng.uniform(0.5, 2, n).astype(dtype)
    double = [np.asarray(each, np.float64) for each in (inputs, weights)]
    wanted = targets if targets.dtype == np.int64 else targets.astype(np.float64)
    terms, outputs, backward = NUMPY.loss(Context(), bound, double[0], wanted, double[1])
    outputs, gradient = outputs.copy(), backward()
    first = losses(cores[0], name, inputs, targets, weights, from_logits=from_logits, **more)
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(first[0], terms, rtol=tolerance, atol=tolerance)
    if from_logits:
        np.testing.assert_allclose(first[1], outputs, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(first[2], gradient, rtol=tolerance, atol=10 * tolerance)
    for core in cores[1:]:
        again = losses(core, name, inputs, targets, weights, from_logits=from_logits, **more)
        assert [each.tobytes() for each in again] == [each.tobytes() for each in first], core.isa


def ctc(core, inputs, labels, weights, *, want=(True, True)):
    n, steps, classes = inputs.shape
    outputs, gradient = (np.full_like(inputs, np.nan) if wanted else None for wanted in want)
    terms = np.full(n, np.nan)
    for tasks in ((0, n // 2), (n // 2, n)):
        core.run(
            "ctc", inputs.dtype, tasks, samples=n, steps=steps, classes=classes, length=labels.shape[1], inputs=inputs,
            labels=labels, weights=weights, outputs=outputs, gradient=gradient, terms=terms,
        )  # fmt: skip
    return terms, outputs, gradient


@pytest.mark.parametrize("dtype", DTYPES)
@few
@given(n=st.integers(1, 4), steps=st.integers(1, 9), classes=st.sampled_from([2, 3, 17, 40]), length=st.integers(0, 6),
       seed=st.integers(0, 999))  # fmt: skip
def test_ctc(cores, dtype, n, steps, classes, length, seed):
    """Repeated labels, padding of both kinds, no labels at all, and sequences that are too long are among them."""
    rng = np.random.default_rng(seed)
    inputs = numbers((n, steps, classes), dtype, seed)
    labels = rng.integers(1, min(classes, 4), (n, length))
    labels[np.arange(length) >= rng.integers(0, length + 1, (n, 1))] = rng.choice([0, -1])
    weights = rng.uniform(0.5, 2, n).astype(dtype)
    bound = LOSSES["ctc"]().bind("softmax")
    terms, outputs, backward = NUMPY.loss(Context(), bound, inputs.astype(np.float64), labels, weights.astype(float))
    first = ctc(cores[0], inputs, labels, weights)
    tolerance = 1e-5 if dtype == np.float32 else 1e-10
    np.testing.assert_allclose(first[0], terms, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(first[1], outputs, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(first[2], backward(), rtol=tolerance, atol=10 * tolerance)
    for core in cores:
        again = ctc(core, inputs, labels, weights)
        assert [each.tobytes() for each in again] == [each.tobytes() for each in first], core.isa
    assert ctc(cores[-1], inputs, labels, weights, want=(False, False))[0].tobytes() == first[0].tobytes()


def test_a_sample_of_ctc_does_not_depend_on_its_neighbours(core):
    inputs = numbers((4, 8, 5), np.float32, 1)
    labels = np.array([[1, 2, 2, 0], [3, 0, 0, 0], [4, 1, 3, 2], [0, 0, 0, 0]])
    together = ctc(core, inputs, labels, None)
    for i in range(4):
        alone = ctc(core, inputs[i : i + 1], labels[i : i + 1], None)
        assert [each.tobytes() for each in alone] == [each[i : i + 1].tobytes() for each in together]


def test_a_label_that_is_no_class_makes_ctc_nan_and_a_sequence_without_place_infinite(core):
    terms, _, gradient = ctc(core, np.zeros((3, 2, 3)), np.array([[1, 3], [1, 1], [1, 2]]), None)
    assert np.isnan(terms[0])
    assert terms[1] == np.inf
    assert np.isfinite(terms[2])
    assert np.isfinite(gradient[1:]).all()


@pytest.mark.parametrize("label", [-1, 3, 2**40])
def test_a_label_that_names_no_class_makes_the_loss_nan(core, label):
    targets = np.array([0, label, 2])
    for from_logits in (False, True):
        inputs = np.full((3, 3), 1 / 3, np.float32)
        terms = losses(core, "sparse_categorical_crossentropy", inputs, targets, None, from_logits=from_logits)[0]
        assert np.isnan(terms).tolist() == [False, True, False]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_class_that_is_ruled_out_adds_nothing_to_the_loss(cores, dtype):
    logits = np.random.default_rng(0).normal(size=(2, 20)).astype(dtype)
    logits[:, 3] = -np.inf
    one_hot = np.eye(20, dtype=dtype)[[0, 19]]
    kept = np.arange(20) != 3
    for name, targets in (
        ("categorical_crossentropy", one_hot),
        ("sparse_categorical_crossentropy", np.array([0, 19])),
    ):
        terms, outputs, gradient = losses(cores[-1], name, logits, targets, None, from_logits=True)
        p = np.exp(logits[:, kept].astype(np.float64))
        p /= p.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(terms, -np.log(p[[0, 1], [0, 18]]), rtol=1e-5)
        np.testing.assert_allclose(outputs[:, kept], p, rtol=1e-5)
        np.testing.assert_allclose(gradient[:, kept], p - one_hot[:, kept], rtol=1e-5, atol=1e-7)
        assert not outputs[:, 3].any()
        assert not gradient[:, 3].any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_softmax_in_place_is_that_of_the_loss(cores, dtype):
    """Predictions and evaluations have the same bits, whether the loss is computed or not."""
    for classes in (3, 16, 17, 50):
        z = numbers((5, classes), dtype, classes)
        outputs = losses(
            cores[-1], "sparse_categorical_crossentropy", z, np.zeros((5, 1), np.int64), None, from_logits=True
        )[1]
        cores[-1].run("activate", dtype, 5, rows=5, columns=classes, activation=CODES["softmax"], z=z, y=z)
        assert z.tobytes() == outputs.tobytes()

"""Activations, losses and layer normalisation: the same bits in all variants, and the mathematics of NumPy's side."""

import re
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcnn.nn.activations import ACTIVATIONS, activation
from hpcnn.nn.context import Context
from hpcnn.nn.losses import LOSSES
from hpcnn.nn.native.base import CODES, FROM_INPUT
from hpcnn.nn.native.loss import LOSS_CODES
from hpcnn.nn.plain import NUMPY
from scripts import ulp_errors
from tests.kernels.structures import CONSTANTS
from tests.require import missing

DTYPES = [np.float32, np.float64]
few = settings(max_examples=25, deadline=None)
rows, columns = st.integers(0, 9), st.sampled_from([1, 2, 7, 10, 16, 17, 33, 100])


def numbers(shape, dtype, seed, spread=3.0):
    """Return normal numbers, some of them far out, tiny or 0."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=shape) * spread
    odd = rng.choice([1.0, 1.0, 1.0, 20.0, 0.0, -0.0, 1e-30], size=shape)
    return (values * odd).astype(dtype)


def activated(core, name, z):
    y = np.full_like(z, np.nan)
    core.run("activate", z.dtype, len(z), rows=len(z), columns=z.shape[1], activation=CODES[name], z=z, y=y)
    return y


def pulled(core, name, saved, dy):
    dz = np.full_like(dy, np.nan)
    fields = {"rows": len(dy), "columns": dy.shape[1], "activation": CODES[name], "saved": saved, "dy": dy, "dz": dz}
    for tasks in ((0, len(dy) // 2), (len(dy) // 2, len(dy))):
        core.run("activate_backward", dy.dtype, tasks, **fields)
    return dz


def test_the_codes_are_those_of_the_core():
    assert {name.upper(): code for name, code in CODES.items()}.items() <= CONSTANTS.items()
    assert {name.upper(): code for name, code in LOSS_CODES.items()}.items() <= CONSTANTS.items()
    assert LOSS_CODES.keys() == LOSSES.keys()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
@few
@given(n=rows, width=columns, seed=st.integers(0, 99))
def test_activations(cores, name, dtype, n, width, seed):
    z, dy = numbers((n, width), dtype, seed), numbers((n, width), dtype, seed + 100)
    first = activated(cores[0], name, z)
    with np.errstate(all="ignore"):
        y, backward = activation(name)(z.astype(np.float64), Context(), "a")
        y = y.copy()
        dz = backward(dy.astype(np.float64))
    saved = z if name in FROM_INPUT else y.astype(dtype)
    slope = pulled(cores[0], name, saved, dy)
    tolerance = 1e-6 if dtype == np.float32 else 1e-14
    np.testing.assert_allclose(first, y, rtol=tolerance, atol=tolerance)
    steep = saved != 0  # at 0, the two may choose another side
    np.testing.assert_allclose(slope[steep], dz[steep], rtol=30 * tolerance, atol=60 * tolerance)
    for core in cores[1:]:
        assert activated(core, name, z).tobytes() == first.tobytes(), core.isa
        assert pulled(core, name, saved, dy).tobytes() == slope.tobytes(), core.isa
    for written in (first, slope):
        assert not ((written != 0) & (abs(written) < np.finfo(dtype).tiny)).any()


EXACT = {
    "tanh": np.tanh,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
    "softplus": lambda z: np.maximum(z, 0) + np.log1p(np.exp(-abs(z))),
}


@pytest.mark.parametrize("name", EXACT)
def test_errors_of_float32_are_within_one_unit_in_the_last_place(core, name):
    """scripts/ulp_errors.py goes through all of them."""
    bits = np.arange(0, 2**32, 9973, dtype=np.uint64).astype(np.uint32)
    z = bits.view(np.float32)
    z = z[np.isfinite(z) & (abs(z) < 80)][None]
    with np.errstate(all="ignore"):
        exact = EXACT[name](z.astype(np.longdouble))
    normal = abs(exact) >= np.finfo(np.float32).tiny  # others become 0
    unit = np.spacing(abs(exact[normal]).astype(np.float32)).astype(np.float64)
    assert (abs(activated(core, name, z)[normal] - exact[normal]) / unit).max() < 1


def test_errors_of_the_functions_are_below_two_units_in_the_last_place(capfd, monkeypatch):
    """Of some numbers; the script goes through more. It also prints each special value that is not C99's."""
    if not shutil.which("cc"):
        missing("there is no C compiler (cc)")
    monkeypatch.setattr("sys.argv", ["ulp_errors", "10007"])
    ulp_errors.main()
    lines = capfd.readouterr().out.splitlines()
    errors = [re.fullmatch(r"\w+ +float(?:32|64) ([0-9.]+) ulp, at .*", line) for line in lines]
    assert len(errors) == 14
    assert all(errors), lines
    assert max(float(error[1]) for error in errors if error) < 2, lines


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values(core, dtype):
    z = np.array([[np.inf, -np.inf, np.nan, 0.0, -0.0, 1e4, -1e4]], dtype)
    inf, nan = np.inf, np.nan
    expected = {
        "relu": [inf, 0, nan, 0, 0, 1e4, 0],
        "leaky_relu": [inf, -inf, nan, 0, 0, 1e4, -2e3],
        "elu": [inf, -1, nan, 0, 0, 1e4, -1],
        "softplus": [inf, 0, nan, np.log(2), np.log(2), 1e4, 0],
        "sigmoid": [1, 0, nan, 0.5, 0.5, 1, 0],
        "tanh": [1, -1, nan, 0, 0, 1, -1],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(activated(core, name, z)[0], np.array(values, dtype), rtol=1e-6, err_msg=name)
    assert np.signbit(activated(core, "tanh", z)[0, 4])
    assert not np.signbit(activated(core, "relu", z)[0, 4])
    assert np.isnan(activated(core, "softmax", z)).all()


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
     if name != "ctc" and (loss.fused_head or not from_logits)],
)  # fmt: skip
@few
@given(n=st.integers(1, 5), positions=st.integers(1, 3), classes=st.sampled_from([2, 3, 16, 17, 40]),
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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("affine", [False, True])
@few
@given(n=rows, width=st.sampled_from([1, 2, 7, 16, 17, 100]), seed=st.integers(0, 99))
def test_layer_norm(cores, dtype, affine, n, width, seed):
    rng = np.random.default_rng(seed)
    x, dy = (rng.normal(size=(n, width)).astype(dtype) for _ in range(2))
    gamma, beta = (rng.normal(size=width).astype(dtype) for _ in range(2)) if affine else (None, None)

    def both(core):
        normal, y, inverse, dx = np.full_like(x, np.nan), np.full_like(x, np.nan), np.full(n, np.nan, dtype), dy.copy()
        shape = {"rows": n, "columns": width}
        core.run("layer_norm", dtype, n, **shape, epsilon=1e-3, x=x, gamma=gamma, beta=beta, normal=normal,
                 inverse=inverse, y=y)  # fmt: skip
        core.run("layer_norm_backward", dtype, n, **shape, normal=normal, inverse=inverse, gamma=gamma, dy=dx, dx=dx)
        return y, dx

    doubles = [None if each is None else each.astype(np.float64) for each in (x, gamma, beta)]
    y, backward = NUMPY.layer_norm(Context(), "n", *doubles, 1e-3)
    first = both(cores[0])
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(first[0], y, rtol=tolerance, atol=10 * tolerance)
    dx = backward(dy.astype(np.float64), None, None, need_dx=True)
    np.testing.assert_allclose(first[1], dx, rtol=tolerance, atol=300 * tolerance)
    for core in cores[1:]:
        assert [each.tobytes() for each in both(core)] == [each.tobytes() for each in first], core.isa


def test_the_comparison_can_fail(cores):
    """A number that differs in its last bit is noticed."""
    z = numbers((1, 100), np.float32, 1)
    assert activated(cores[0], "tanh", z).tobytes() != activated(cores[-1], "tanh", np.nextafter(z, 9)).tobytes()

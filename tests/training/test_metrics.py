import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcnn.errors import JobError
from hpcnn.job.checks import COLLECTED_METRICS, TABLE_METRICS
from hpcnn.job.output_checks import CLASS_METRICS
from hpcnn.training.metrics import (
    METRICS,
    CollectedMetric,
    build_metric,
    build_metrics,
    is_multilabel,
    lower_is_better,
    plain_values,
    scalars,
)
from tests.training.metric_cases import CASES, N, measured, metric_of, samples

cases = pytest.mark.parametrize(("kind", "name"), CASES)
nan = float("nan")


@cases
@given(cuts=st.lists(st.integers(0, N), max_size=6))
@settings(max_examples=12, deadline=None)
def test_pieces_cut_anywhere_give_the_value_of_the_whole(kind, name, cuts):
    outputs, targets, labels = samples(kind)
    metric = metric_of(kind, name, outputs, labels, top_k=2)
    whole = measured(metric, outputs, targets)
    np.testing.assert_allclose(measured(metric, outputs, targets, cuts), whole, rtol=1e-9)
    assert type(whole) is (np.ndarray if name == "confusion_matrix" else float)


@cases
def test_no_sample_has_no_value(kind, name):
    outputs, targets, labels = samples(kind)
    metric = metric_of(kind, name, outputs, labels)
    value = measured(metric, outputs[:0], targets[:0])
    assert not value.any() if name == "confusion_matrix" else np.isnan(value)


@cases
def test_samples_are_left_as_they_are_and_results_are_no_views(kind, name):
    outputs, targets, labels = samples(kind)
    before = outputs.tobytes(), targets.tobytes()
    metric = metric_of(kind, name, outputs, labels)
    sums = np.zeros(metric.size)
    metric.add(sums, outputs, targets)
    assert (outputs.tobytes(), targets.tobytes()) == before
    assert not np.shares_memory(metric.value(sums), sums)


def value(name, outputs, targets, *, top_k=2):
    outputs, targets = np.asarray(outputs, np.float32), np.asarray(targets)
    labels = targets.dtype.kind == "i"
    return measured(build_metric(name, outputs=outputs.shape[-1], labels=labels, top_k=top_k), outputs, targets)


THREE = [[0.5, 0.3, 0.2], [0.4, 0.4, 0.2], [0.1, 0.2, 0.7], [0.6, 0.3, 0.1]]
HAND = [
    # name, outputs, targets, value
    ("accuracy", THREE, [0, 1, 2, 2], 0.5),  # of equal outputs the first is the prediction
    ("accuracy", [[0.5], [0.51], [0.9], [0.2]], [[0.0], [1.0], [0.0], [0.0]], 0.75),  # 0.5 itself is no yes
    ("binary_accuracy", [[0.5, 0.9], [0.6, 0.1]], [[0.0, 1.0], [0.0, 1.0]], 0.5),
    ("top_k_accuracy", THREE, [1, 1, 1, 2], 0.75),
    ("mae", [[1.0, 2.0], [3.0, 4.0]], [[0.0, 2.0], [5.0, 4.0]], 0.75),
    ("mse", [[1.0, 2.0], [3.0, 4.0]], [[0.0, 2.0], [5.0, 4.0]], 1.25),
    ("r2", [[1.0], [2.0], [4.0]], [[1.0], [2.0], [3.0]], 0.5),
    ("precision", [[0.9], [0.8], [0.1]], [[1.0], [0.0], [1.0]], 0.5),
    ("recall", [[0.9], [0.8], [0.1], [0.2]], [[1.0], [0.0], [1.0], [1.0]], 1 / 3),
    ("f1", [[0.9], [0.8], [0.1], [0.2]], [[1.0], [0.0], [1.0], [1.0]], 0.4),
    ("precision", THREE, [0, 1, 2, 2], (1 / 3 + 0 + 1) / 3),
    ("recall", THREE, [0, 1, 2, 2], (1 + 0 + 1 / 2) / 3),
    ("f1", THREE, [0, 1, 2, 2], (1 / 2 + 0 + 2 / 3) / 3),
    ("mean_iou", THREE, [0, 1, 2, 2], (1 / 3 + 0 + 1 / 2) / 3),
    ("mean_iou", THREE, [0, 0, 2, 0], (1 + 1) / 2),  # class 1 is neither true nor predicted
    ("mean_iou", [[0.9], [0.8], [0.1], [0.2]], [[1.0], [0.0], [1.0], [1.0]], (0 + 1 / 4) / 2),
    ("perplexity", THREE, [0, 1, 2, 2], (0.5 * 0.4 * 0.7 * 0.1) ** -0.25),
    ("perplexity", [[1.0, 3.0]], [[0.0, 1.0]], 4 / 3),  # outputs are divided by their sum
    ("perplexity", [[1.0, 0.0]], [1], 1e7),  # and kept off 0
]


@pytest.mark.parametrize(("name", "outputs", "targets", "expected"), HAND)
def test_values_by_hand(name, outputs, targets, expected):
    assert value(name, outputs, targets) == pytest.approx(expected)


@pytest.mark.parametrize(("iou_class", "expected"), [(0, 1 / 3), (1, 0.0), (2, 0.5)])
def test_the_intersection_over_union_of_one_class(iou_class, expected):
    metric = build_metric("iou", outputs=3, labels=True, iou_class=iou_class)
    assert measured(metric, np.array(THREE), np.array([0, 1, 2, 2])) == pytest.approx(expected)
    assert np.isnan(metric.value(np.zeros(metric.size)))


@pytest.mark.parametrize(("outputs", "multilabel", "known"), [(1, False, "2 classes"), (3, True, "3 labels")])
def test_a_class_that_the_model_does_not_have(outputs, multilabel, known):
    with pytest.raises(JobError, match=rf"train\.iou_class = 3, but the model has {known}, counted from 0: choose at"):
        build_metric("iou", outputs=outputs, labels=False, multilabel=multilabel, iou_class=3)


@pytest.mark.parametrize(("k", "expected"), [(1, 0.5), (2, 0.75), (3, 1.0), (9, 1.0)])
def test_top_k_counts_ties_for_the_sample(k, expected):
    assert value("top_k_accuracy", THREE, [1, 1, 2, 2], top_k=k) == expected


def test_rows_of_a_confusion_matrix_are_true_classes_and_columns_predicted_ones():
    assert value("confusion_matrix", THREE, [0, 1, 2, 2]).tolist() == [[1, 0, 0], [1, 0, 0], [1, 0, 1]]
    assert value("confusion_matrix", [[0.9], [0.1], [0.8]], [[1.0], [1.0], [0.0]]).tolist() == [[0, 1], [1, 1]]


@pytest.mark.parametrize("constant", [0.0, 1.0, 0.1, 1e8 / 3])
def test_r2_of_constant_targets_is_not_defined(constant):
    """By rounding, the sum of squares about the mean is not always 0, and 1 - residual / total any number then."""
    targets = np.full((30, 1), constant)
    assert np.isnan(value("r2", targets + 1, targets))


def test_r2_of_one_constant_output_makes_the_mean_undefined():
    targets = np.stack([np.arange(9.0), np.full(9, 0.3)], axis=1)
    assert np.isnan(value("r2", targets, targets))


def test_r2_of_targets_far_from_0_is_right():
    rng = np.random.default_rng(0)
    y = 1e4 + rng.normal(size=(1000, 1))
    outputs = y + rng.normal(size=(1000, 1)) / 2
    metric = build_metric("r2", outputs=1, labels=False)
    expected = 1 - ((outputs - y) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    assert measured(metric, outputs, y) == pytest.approx(expected, rel=1e-6)


def test_sums_of_float32_errors_are_kept_in_float64():
    outputs = np.full((2**13, 4), 0.1, np.float32)
    metric = build_metric("mae", outputs=4, labels=False)
    assert measured(metric, outputs, np.zeros_like(outputs)) == pytest.approx(float(np.float32(0.1)), rel=1e-12)


@pytest.mark.parametrize("kind", ["labels", "rows", "sequence labels", "sequence rows"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_perplexity_is_the_same_by_the_core(kind, dtype):
    outputs, targets, labels = samples(kind, dtype)
    native, numpy = (
        measured(metric_of(kind, "perplexity", outputs, labels, arithmetic=each), outputs, targets)
        for each in ("native", "numpy")
    )
    assert native == pytest.approx(numpy, rel=1e-6 if dtype == np.float32 else 1e-12)
    empty = metric_of(kind, "perplexity", outputs, labels, arithmetic="native")
    assert np.isnan(measured(empty, outputs[:0], targets[:0]))


BAD = [
    ("perplexity", 1, False, r"'perplexity' needs more than one output"),
    ("acuracy", 3, True, r"unknown metric 'acuracy'\. Did you mean 'accuracy'\?"),
    ("binary_accuracy", 3, True, r"'binary_accuracy' compares rows of outputs, but the targets are integer labels"),
    ("categorical_accuracy", 3, True, r"'categorical_accuracy' compares rows.*Use 'accuracy'"),
    ("mae", 3, True, r"'mae' compares rows"),
    ("mse", 3, True, r"'mse' compares rows"),
    ("r2", 3, True, r"'r2' compares rows"),
    ("sparse_categorical_accuracy", 3, False, r"'sparse_categorical_accuracy' needs integer labels.*Use 'accuracy'"),
    ("categorical_accuracy", 1, False, r"'categorical_accuracy' needs more than one output\. Use 'binary_accuracy'"),
    ("top_k_accuracy", 1, False, r"'top_k_accuracy' needs more than one output\. Use 'binary_accuracy'"),
]


@pytest.mark.parametrize(("name", "outputs", "labels", "text"), BAD)
def test_a_metric_that_can_not_be_had_is_refused(name, outputs, labels, text):
    with pytest.raises(JobError, match=text):
        build_metric(name, outputs=outputs, labels=labels)


@pytest.mark.parametrize("name", ["confusion_matrix", "top_k_accuracy", "categorical_accuracy", "perplexity"])
def test_a_metric_of_one_class_is_refused_for_several_labels(name):
    with pytest.raises(
        JobError, match=rf"'{name}' is about classes of which one is true, .*Use 'binary_accuracy', 'pre"
    ):
        build_metric(name, outputs=3, labels=False, multilabel=True)


@pytest.mark.parametrize(
    ("loss", "ending", "others", "expected"),
    [
        ("binary_crossentropy", "sigmoid", {}, True),
        ("binary_crossentropy", None, {}, True),  # of a user's own layer
        ("mse", "sigmoid", {}, True),
        ("binary_crossentropy", "sigmoid", {"outputs": 1}, False),
        ("binary_crossentropy", "sigmoid", {"one_hot": True}, False),
        ("binary_crossentropy", "softmax", {}, False),
        ("categorical_crossentropy", "sigmoid", {}, False),
        ("mse", "linear", {}, False),
        ("dice", "sigmoid", {}, True),
        ("binary_focal_crossentropy", None, {}, True),
        ("categorical_focal_crossentropy", "sigmoid", {}, False),
        ("kl_divergence", "sigmoid", {}, False),
        ("sparse_categorical_crossentropy", "sigmoid", {"labels": True}, False),
    ],
)
def test_when_outputs_are_labels_of_their_own(loss, ending, others, expected):
    facts = {"outputs": 3, "labels": False, "one_hot": False, **others}
    assert is_multilabel(loss=loss, ending=ending, **facts) == expected


def test_an_output_that_is_not_a_number_is_not_among_the_largest():
    assert value("top_k_accuracy", [[nan, nan, nan], THREE[0]], [0, 0]) == 0.5


def test_metrics_keep_their_order():
    built = build_metrics(["f1", "accuracy", "top_k_accuracy"], outputs=4, labels=True, top_k=3)
    assert [metric.name for metric in built] == ["f1", "accuracy", "top_k_accuracy"]
    assert built[2].k == 3


def test_the_registry_and_the_job_know_the_same_metrics():
    assert set(CLASS_METRICS) | {"mae", "mse", "r2"} == set(METRICS)
    assert set(TABLE_METRICS) == {name for _, name in CASES if name == "confusion_matrix"}
    assert {name for _, name in CASES} | set(COLLECTED_METRICS) == set(METRICS)
    assert set(COLLECTED_METRICS) == {name for name, metric in METRICS.items() if issubclass(metric, CollectedMetric)}
    assert {name for name in ("loss", *METRICS) if lower_is_better(f"val_{name}")} == {
        "loss",
        "mae",
        "mse",
        "perplexity",
    }
    assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in METRICS)


def test_values_as_json_can_hold_them():
    values = {"loss": 0.5, "r2": nan, "confusion_matrix": np.eye(2)}
    assert plain_values(values) == {"loss": 0.5, "r2": None, "confusion_matrix": [[1, 0], [0, 1]]}
    assert list(scalars(values)) == ["loss", "r2"]
    assert plain_values(plain_values(values)) == plain_values(values)

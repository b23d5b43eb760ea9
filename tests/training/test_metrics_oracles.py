"""Metrics against scikit-learn and Keras."""

import numpy as np
import pytest

from hpcnn.training.metrics import build_metric
from tests.require import require
from tests.training.metric_cases import CASES, measured, metric_of, samples


def classes(outputs, targets, labels):
    """Return true and predicted classes, flat."""
    if outputs.shape[-1] == 1:
        return targets[..., 0] > 0.5, outputs[..., 0] > 0.5
    true = targets if labels else targets.argmax(-1)
    return true.reshape(-1), outputs.argmax(-1).reshape(-1)


def by_sklearn(sk, kind, name, outputs, targets, labels):
    k = outputs.shape[-1]
    if name in ("mae", "mse", "r2"):
        function = {"mae": sk.mean_absolute_error, "mse": sk.mean_squared_error, "r2": sk.r2_score}[name]
        return function(*(array.reshape(-1, k).astype(np.float64) for array in (targets, outputs)))
    if name == "binary_accuracy" or (name == "accuracy" and kind.endswith("many binary")):
        return sk.accuracy_score((targets > 0.5).reshape(-1), (outputs > 0.5).reshape(-1))
    if name == "iou":
        if kind.endswith("many binary"):
            return sk.jaccard_score(targets[..., 2].reshape(-1) > 0.5, outputs[..., 2].reshape(-1) > 0.5)
        true, predicted = classes(outputs, targets, labels)
        return sk.jaccard_score(true, predicted, average="macro", labels=[1 if k == 1 else 2])
    if name == "mean_iou":
        if kind.endswith("many binary"):
            pairs = [(targets[..., i].reshape(-1) > 0.5, outputs[..., i].reshape(-1) > 0.5) for i in range(k)]
            return np.mean([sk.jaccard_score(*pair) for pair in pairs if np.any(pair)])
        true, predicted = classes(outputs, targets, labels)
        return sk.jaccard_score(true, predicted, average="macro", labels=np.union1d(true, predicted))
    if kind.endswith("many binary"):
        scores = {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}
        true, predicted = (array.reshape(-1, k) > 0.5 for array in (targets, outputs))
        return scores[name](true, predicted, average="macro", zero_division=0)
    true, predicted = classes(outputs, targets, labels)
    known = list(range(max(2, k)))
    if name == "top_k_accuracy":
        # No ties between outputs near the k-th: scikit-learn breaks them by position.
        return sk.top_k_accuracy_score(true, outputs.reshape(-1, k), k=2, labels=known)
    if name == "perplexity":  # scikit-learn keeps probabilities off 0 by less
        p = np.clip(outputs.reshape(-1, k).astype(np.float64), 1e-7, 1)
        return np.exp(sk.log_loss(true, p / p.sum(axis=1, keepdims=True), labels=known))
    if name == "confusion_matrix":
        return sk.confusion_matrix(true, predicted, labels=known)
    if name in ("precision", "recall", "f1"):
        function = {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}[name]
        how = {"average": "binary"} if k == 1 else {"average": "macro", "labels": known}
        return function(true, predicted, zero_division=0, **how)
    return sk.accuracy_score(true, predicted)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("kind", "name"), CASES)
def test_values_are_those_of_scikit_learn(kind, name, dtype):
    sk = require("sklearn.metrics")
    outputs, targets, labels = samples(kind, dtype)
    if name == "top_k_accuracy":
        outputs = outputs + np.random.default_rng(0).random(outputs.shape) * 1e-3
    if name == "r2":  # of classes that never come it is not defined
        targets = targets + np.random.default_rng(0).random(targets.shape).astype(dtype)
    metric = metric_of(kind, name, outputs, labels, top_k=2, iou_class=1 if outputs.shape[-1] == 1 else 2)
    expected = by_sklearn(sk, kind, name, outputs, targets, labels)
    np.testing.assert_allclose(measured(metric, outputs, targets, [10, 30]), expected, rtol=1e-6)


KERAS = {
    "accuracy": None,  # the name stands for one of the next three there
    "binary_accuracy": "BinaryAccuracy",
    "categorical_accuracy": "CategoricalAccuracy",
    "sparse_categorical_accuracy": "SparseCategoricalAccuracy",
    "mae": "MeanAbsoluteError",
    "mse": "MeanSquaredError",
    "r2": "R2Score",
}
IN_KERAS = [
    (kind, name)
    for kind, name in CASES
    if KERAS.get(name) and (name, kind) not in (("r2", "rows"), ("r2", "many binary"))
]


@pytest.mark.parametrize(("kind", "name"), [case for case in IN_KERAS if case != ("sequence rows", "r2")])
def test_values_are_those_of_keras(kind, name):
    keras = require("keras")
    outputs, targets, labels = samples(kind)
    metric = metric_of(kind, name, outputs, labels)
    theirs = getattr(keras.metrics, KERAS[name])()
    theirs.update_state(targets, outputs)
    np.testing.assert_allclose(measured(metric, outputs, targets), float(theirs.result()), rtol=1e-5)


@pytest.mark.parametrize("kind", ["labels", "rows"])
def test_top_k_is_that_of_keras_with_ties(kind):
    keras = require("keras")
    outputs, targets, labels = samples(kind)
    for k in (1, 2, 4):
        metric = build_metric("top_k_accuracy", outputs=6, labels=labels, top_k=k)
        prefix = "SparseTopK" if labels else "TopK"
        theirs = getattr(keras.metrics, f"{prefix}CategoricalAccuracy")(k=k)
        theirs.update_state(targets, outputs)
        assert measured(metric, outputs, targets) == pytest.approx(float(theirs.result()))

"""Samples to measure, and the metrics that go with each kind of them."""

from __future__ import annotations

import itertools

import numpy as np

from hpcnn.training.metrics import build_metric

N = 57


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def samples(kind, dtype=np.float32, n=N):
    """Return outputs and targets of a kind, and whether the targets are labels. Ties are there, and classes missing."""
    rng = np.random.default_rng([len(kind), n])
    shape = (n, 3) if kind.startswith("sequence") else (n,)
    if kind == "binary":
        return rng.random((n, 1)).round(1).astype(dtype), (rng.random((n, 1)) > 0.4).astype(dtype), False
    if kind.endswith("many binary"):  # labels that are never true, or never predicted, among them
        outputs, targets = rng.random((*shape, 6)), rng.random((*shape, 6)) > 0.6
        outputs[..., 2:4] *= 0.5
        targets[..., 3:5] = False
        return outputs.astype(dtype), targets.astype(dtype), False
    if kind == "regression":
        y = rng.normal(2, 3, (n, 3))
        return (y + rng.normal(size=(n, 3))).astype(dtype), y.astype(dtype), False
    outputs = softmax(rng.normal(size=(*shape, 6)).round(1)).astype(dtype)
    labels = rng.choice([0, 1, 2, 4, 4], shape)  # no class 3, no class 5
    outputs[..., 5] = 0  # which is never predicted either
    return (outputs, labels, True) if kind.endswith("labels") else (outputs, np.eye(6, dtype=dtype)[labels], False)


OF_LABELS = ("precision", "recall", "f1", "iou", "mean_iou")
CLASS = ("accuracy", "top_k_accuracy", *OF_LABELS, "perplexity", "confusion_matrix")
VALUES = ("mae", "mse", "r2")
METRICS_OF = {
    "labels": (*CLASS, "sparse_categorical_accuracy"),
    "rows": (*CLASS, *VALUES, "categorical_accuracy", "binary_accuracy"),
    "sequence labels": (*CLASS, "sparse_categorical_accuracy"),
    "sequence rows": (*CLASS, *VALUES, "categorical_accuracy", "binary_accuracy"),
    "binary": (
        "accuracy",
        "binary_accuracy",
        "precision",
        "recall",
        "f1",
        "iou",
        "mean_iou",
        "confusion_matrix",
        *VALUES,
    ),
    "many binary": ("accuracy", "binary_accuracy", "precision", "recall", "f1", "iou", "mean_iou", *VALUES),
    "sequence many binary": ("accuracy", "precision", "recall", "f1", "iou", "mean_iou"),
    "regression": VALUES,
}
CASES = [(kind, name) for kind, names in METRICS_OF.items() for name in names]


def metric_of(kind, name, outputs, labels, **options):
    """Return the metric `name` for samples of a kind."""
    return build_metric(
        name, outputs=outputs.shape[-1], labels=labels, multilabel=kind.endswith("many binary"), **options
    )


def measured(metric, outputs, targets, cuts=()):
    """Return the metric's value over samples that are added in pieces, cut at `cuts`."""
    sums, bounds = np.zeros(metric.size), [0, *sorted(cuts), len(outputs)]
    for start, stop in itertools.pairwise(bounds):
        metric.add(sums, outputs[start:stop], targets[start:stop])
    return metric.value(sums)

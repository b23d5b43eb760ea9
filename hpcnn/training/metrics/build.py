"""The metrics by name, what they need, and their values as numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hpcnn.errors import JobError, unknown_name
from hpcnn.training.metrics.base import Metric
from hpcnn.training.metrics.counts import F1, ConfusionMatrix, IoU, MeanIoU, Precision, Recall
from hpcnn.training.metrics.perplexity import Perplexity
from hpcnn.training.metrics.ranking import AUC
from hpcnn.training.metrics.shares import (
    R2,
    Accuracy,
    BinaryAccuracy,
    CategoricalAccuracy,
    MeanAbsoluteError,
    MeanSquaredError,
    SparseCategoricalAccuracy,
    TopKAccuracy,
)

METRICS: dict[str, type[Metric]] = {
    "accuracy": Accuracy,
    "binary_accuracy": BinaryAccuracy,
    "categorical_accuracy": CategoricalAccuracy,
    "sparse_categorical_accuracy": SparseCategoricalAccuracy,
    "top_k_accuracy": TopKAccuracy,
    "mae": MeanAbsoluteError,
    "mse": MeanSquaredError,
    "r2": R2,
    "precision": Precision,
    "recall": Recall,
    "f1": F1,
    "iou": IoU,
    "mean_iou": MeanIoU,
    "perplexity": Perplexity,
    "auc": AUC,
    "confusion_matrix": ConfusionMatrix,
}


def lower_is_better(value: str) -> bool:
    """Return whether an improvement of ``loss`` or a metric, as ``val_loss``, is a fall; not for unknown ones."""
    name = value.removeprefix("val_")
    if name not in METRICS:  # that of one of several outputs
        known = sorted((one for one in METRICS if name.endswith(f"_{one}")), key=len)
        name = known[-1] if known else "loss" if name.endswith("_loss") else name
    return name == "loss" or (name in METRICS and METRICS[name].lower_is_better)


_ONE_DISTRIBUTION = ("categorical_crossentropy", "categorical_focal_crossentropy", "kl_divergence")
_OF_LABELS = ("binary_crossentropy", "binary_focal_crossentropy")


def is_multilabel(*, loss: str, ending: str | None, outputs: int, labels: bool, one_hot: bool) -> bool:
    """Return whether each of a model's outputs is a label of its own.

    A categorical_crossentropy has one distribution over the classes, whatever the outputs were. `ending` is the last
    activation, None if unknown; `one_hot`: whether targets are rows that were made of integer labels.
    """
    if labels or one_hot or outputs == 1 or loss in _ONE_DISTRIBUTION:
        return False
    return ending == "sigmoid" or (loss in _OF_LABELS and ending != "softmax")


def build_metric(
    name: str,
    *,
    outputs: int,
    labels: bool,
    multilabel: bool = False,
    top_k: int = 5,
    iou_class: int = 1,
    arithmetic: str = "numpy",
) -> Metric:
    """Return the metric `name` for `outputs` outputs a sample and targets that are `labels` or rows.

    `multilabel`: each output is a label of its own. `arithmetic`: what computes logarithms.
    JobError: the name is unknown, or does not suit such targets.
    """
    if name not in METRICS:
        unknown_name("metric", name, METRICS)
    metric = METRICS[name]
    if labels and metric.targets == "rows":
        raise JobError(
            f"train.metrics: {name!r} compares rows of outputs, but the targets are integer labels. "
            "Use 'accuracy', or another loss (categorical_crossentropy with data.one_hot = true, say)."
        )
    if not labels and metric.targets == "labels":
        raise JobError(f"train.metrics: {name!r} needs integer labels, but the targets are rows. Use 'accuracy'.")
    if multilabel and metric.one_class:
        raise JobError(
            f"train.metrics: {name!r} is about classes of which one is true, but with a sigmoid on each of {outputs} "
            "outputs any number of labels may be. Use 'binary_accuracy', 'precision', 'recall' or 'f1': they take each "
            "label on its own. If one class a sample is true: 'softmax', or data.one_hot = true with integer labels."
        )
    if outputs < metric.fewest_outputs:
        raise JobError(f"train.metrics: {name!r} needs more than one output. Use 'binary_accuracy'.")
    if metric is TopKAccuracy:
        return TopKAccuracy(name, outputs, labels, k=top_k)
    if metric is IoU:
        most = outputs if multilabel else max(2, outputs)
        if iou_class >= most:
            raise JobError(
                f"train.iou_class = {iou_class}, but the model has {most} {'labels' if multilabel else 'classes'}, "
                f"counted from 0: choose at most {most - 1}."
            )
        return IoU(name, outputs, labels, multilabel, of_class=iou_class)
    return metric(name, outputs, labels, multilabel, arithmetic=arithmetic)


def build_metrics(names: Sequence[str], **facts: Any) -> list[Metric]:
    """Return the metrics of `names`, in order; `facts` are those that `build_metric` takes."""
    return [build_metric(name, **facts) for name in names]


def scalars(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the values that are single numbers."""
    return {name: value for name, value in values.items() if isinstance(value, float)}


def plain_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values as JSON can hold them: lists for matrices, None for what is not defined."""
    plain = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}
    return {name: None if value != value else value for name, value in plain.items()}

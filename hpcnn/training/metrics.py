"""Metrics as sums: each rank adds up its samples, the sums are added over ranks, and the division comes last."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from hpcnn.errors import JobError, unknown_name

Array = NDArray[Any]
Stats = NDArray[np.float64]
Value = float | NDArray[np.float64]


@dataclass(frozen=True)
class Metric(ABC):
    """One metric. Outputs are (n, *shape, k); targets are labels (n, *shape), or rows of the outputs' shape."""

    name: str
    outputs: int
    """Width k of the outputs."""
    labels: bool
    """Whether targets are integer labels."""
    multilabel: bool = False
    """Whether each output is a label of its own, true above 0.5; else they are those of k classes, of which one is
    true (or, for one output, of two)."""
    targets: ClassVar[Literal["any", "labels", "rows"]] = "any"
    """The targets that it can be had from: integer labels, rows, or either."""
    one_class: ClassVar[bool] = False
    """Whether it needs classes of which one is true."""
    fewest_outputs: ClassVar[int] = 1
    counts: ClassVar[bool] = False
    """Whether its numbers are whole, so that they are the same in any order."""
    lower_is_better: ClassVar[bool] = False
    """Whether an improvement is a fall."""

    @property
    @abstractmethod
    def size(self) -> int:
        """How many numbers the metric needs."""

    @abstractmethod
    def add(self, stats: Stats, outputs: Array, targets: Array) -> None:
        """Add the samples to `stats`, float64 of shape (size,)."""

    @abstractmethod
    def value(self, stats: Stats) -> Value:
        """Return the metric of all samples in `stats`; NaN where it is not defined."""


class ClassMetric(Metric):
    """A metric of classes or true labels alone: of what outputs and targets are decided to be."""

    counts = True

    def add(self, stats: Stats, outputs: Array, targets: Array) -> None:
        """Decide, and add the samples."""
        self.add_decided(stats, *self.decide(outputs, targets))

    def decide(self, outputs: Array, targets: Array) -> tuple[Array, Array]:
        """Return what is predicted and what is true: classes (n, *shape), or which labels are true (n, *shape, k).

        The same for all metrics of one model, so that several of them need it once.
        """
        return _decided(outputs, self), _true(targets, self)

    @abstractmethod
    def add_decided(self, stats: Stats, predicted: Array, true: Array) -> None:
        """Add the samples to `stats`, float64 of shape (size,)."""


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def _mean(values: Sequence[float]) -> float:
    """Return the mean; the sum is exact, so that no order matters."""
    return math.fsum(values) / len(values)


def _blocks(outputs: Array) -> Iterator[slice]:
    """Yield rows of at most 4,096 entries at a time (one at least), so that temporaries stay small."""
    rows = max(1, 4096 * len(outputs) // max(1, outputs.size))
    for start in range(0, len(outputs), rows):
        yield slice(start, start + rows)


def _decided(rows: Array, metric: Metric) -> Array:
    """Return what rows of outputs or targets say: the class (n, *shape), or which labels are true (n, *shape, k)."""
    if metric.multilabel:
        return rows > 0.5
    return rows[..., 0] > 0.5 if metric.outputs == 1 else np.argmax(rows, axis=-1)


def _true(targets: Array, metric: Metric) -> Array:
    return targets if metric.labels else _decided(targets, metric)


class _Share(Metric):
    """A sum divided by a number of samples or outputs: the two entries of its stats."""

    size = 2

    def value(self, stats: Stats) -> float:
        return _ratio(stats[0], stats[1])


class _Error(_Share):
    """The mean of a function of output - target over all outputs."""

    targets = "rows"
    lower_is_better = True
    of: ClassVar[np.ufunc]

    def add(self, stats: Stats, outputs: Array, targets: Array) -> None:
        for rows in _blocks(outputs):
            stats[0] += np.add.reduce(self.of(outputs[rows] - targets[rows]), axis=None, dtype=np.float64)
        stats[1] += outputs.size


class Accuracy(_Share, ClassMetric):
    """Share of samples whose class is right: output above 0.5 for one output, the largest output otherwise.

    For several labels a sample: the share of labels that are right, output above 0.5. (Keras, which knows shapes alone,
    takes the largest output there as well.)
    """

    def add_decided(self, stats: Stats, predicted: Array, true: Array) -> None:  # noqa: D102
        right = predicted == true
        stats[0] += np.count_nonzero(right)
        stats[1] += right.size


class CategoricalAccuracy(Accuracy):
    """Accuracy of several outputs against rows."""

    targets = "rows"
    one_class = True
    fewest_outputs = 2


class SparseCategoricalAccuracy(Accuracy):
    """Accuracy against integer labels."""

    targets = "labels"


class BinaryAccuracy(_Share):
    """Share of outputs on the right side of 0.5, each output on its own."""

    targets = "rows"
    counts = True

    def add(self, stats: Stats, outputs: Array, targets: Array) -> None:  # noqa: D102
        right = (outputs > 0.5) == (targets > 0.5)
        stats[0] += np.count_nonzero(right)
        stats[1] += right.size


@dataclass(frozen=True)
class TopKAccuracy(_Share):
    """Share of samples whose true class is among the k largest outputs; ties count for the sample, as in Keras."""

    k: int = 5
    counts = True
    one_class = True
    fewest_outputs = 2

    def add(self, stats: Stats, outputs: Array, targets: Array) -> None:  # noqa: D102
        true = _true(targets, self)[..., np.newaxis]
        not_above = outputs <= np.take_along_axis(outputs, true, axis=-1)  # never true of NaN
        above = self.outputs - np.count_nonzero(not_above, axis=-1)
        stats[0] += np.count_nonzero(above < self.k)
        stats[1] += above.size


class MeanAbsoluteError(_Error):
    """Mean of |output - target| over all outputs."""

    of = np.abs


class MeanSquaredError(_Error):
    """Mean of (output - target)^2 over all outputs."""

    of = np.square


class R2(Metric):
    """Coefficient of determination, 1 - residual / total sum of squares, the mean over the outputs.

    The total sum of squares is taken from sums of y and y^2 in float64: it keeps about 15 digits less twice the
    digits of mean / deviation. Where that leaves about two, the targets count as constant, and R2 is not defined.
    """

    targets = "rows"

    @property
    def size(self) -> int:  # noqa: D102
        return 3 * self.outputs + 1

    def add(self, stats: Stats, outputs: Array, targets: Array) -> None:  # noqa: D102
        k = self.outputs
        for rows in _blocks(outputs):
            y = targets[rows].reshape(-1, k).astype(np.float64)
            stats[:k] += np.square(outputs[rows].reshape(-1, k) - y).sum(axis=0)
            stats[k : 2 * k] += y.sum(axis=0)
            stats[2 * k : 3 * k] += np.square(y).sum(axis=0)
            stats[-1] += len(y)

    def value(self, stats: Stats) -> float:  # noqa: D102
        residual, total, squares = np.split(stats[:-1], 3)
        if not stats[-1]:
            return float("nan")
        spread = squares - total**2 / stats[-1]
        spread[spread < 1e-13 * squares] = 0
        return _mean([1 - _ratio(r, s) for r, s in zip(residual, spread, strict=True)])


class _Counts(ClassMetric):
    """Counts of samples by true class (row) and predicted class (column), or by label."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.outputs, 2, 2) if self.multilabel else 2 * (max(2, self.outputs),)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def add_decided(self, stats: Stats, predicted: Array, true: Array) -> None:
        place = true.astype(np.int64) * self.shape[-1] + predicted.astype(np.int64)
        if self.multilabel:
            place += 4 * np.arange(self.outputs)
        stats += np.bincount(place.reshape(-1), minlength=self.size)


class ConfusionMatrix(_Counts):
    """Counts of samples by true class (row) and predicted class (column). Not for several labels a sample."""

    one_class = True

    def value(self, stats: Stats) -> Value:  # noqa: D102
        return stats.reshape(self.shape).copy()


class _FromConfusion(_Counts):
    """A score for each class: that of the positive class for one output, the mean over classes otherwise (macro).

    For several labels a sample: the mean over labels.
    """

    @staticmethod
    @abstractmethod
    def score(right: float, predicted: float, true: float) -> float:
        """Return one class's score from its counts: rightly predicted, predicted in all, and true in all."""

    def value(self, stats: Stats) -> float:
        counts = stats.reshape(self.shape)
        if not counts.any():
            return float("nan")
        if self.multilabel:
            return _mean([self.score(label[1, 1], label[:, 1].sum(), label[1].sum()) for label in counts])
        scores = [self.score(counts[c, c], counts[:, c].sum(), counts[c].sum()) for c in range(len(counts))]
        return scores[1] if self.outputs == 1 else _mean(scores)


class Precision(_FromConfusion):
    """Share of the samples predicted as a class that are of it; 0 for a class that is never predicted."""

    @staticmethod
    def score(right: float, predicted: float, true: float) -> float:  # noqa: D102
        return float(right / predicted) if predicted else 0.0


class Recall(_FromConfusion):
    """Share of the samples of a class that are predicted as it; 0 for a class without samples."""

    @staticmethod
    def score(right: float, predicted: float, true: float) -> float:  # noqa: D102
        return float(right / true) if true else 0.0


class F1(_FromConfusion):
    """Harmonic mean of a class's precision and recall."""

    @staticmethod
    def score(right: float, predicted: float, true: float) -> float:  # noqa: D102
        return float(2 * right / (predicted + true)) if predicted + true else 0.0


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
    "confusion_matrix": ConfusionMatrix,
}


def lower_is_better(value: str) -> bool:
    """Return whether an improvement of ``loss`` or a metric, as ``val_loss``, is a fall; not for unknown ones."""
    name = value.removeprefix("val_")
    return name == "loss" or (name in METRICS and METRICS[name].lower_is_better)


def is_multilabel(*, loss: str, ending: str | None, outputs: int, labels: bool, one_hot: bool) -> bool:
    """Return whether each of a model's outputs is a label of its own.

    A categorical_crossentropy has one distribution over the classes, whatever the outputs were. `ending` is the last
    activation, None if unknown; `one_hot`: whether targets are rows that were made of integer labels.
    """
    if labels or one_hot or outputs == 1 or loss == "categorical_crossentropy":
        return False
    return ending == "sigmoid" or (loss == "binary_crossentropy" and ending != "softmax")


def build_metric(name: str, *, outputs: int, labels: bool, multilabel: bool = False, top_k: int = 5) -> Metric:
    """Return the metric `name` for `outputs` outputs a sample and targets that are `labels` or rows.

    `multilabel`: each output is a label of its own. JobError: the name is unknown, or does not suit such targets.
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
    return metric(name, outputs, labels, multilabel)


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

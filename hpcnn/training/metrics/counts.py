"""Metrics that are made of counts by true and predicted class, so that they are the same in any order."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field

import numpy as np

from hpcnn.training.metrics.base import Array, ClassMetric, Stats, Value, each, mean, ratio


class _Counts(ClassMetric):
    """Counts of samples by true class (row) and predicted class (column), or by label."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.outputs, 2, 2) if self.multilabel else 2 * (max(2, self.outputs),)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def add_decided(self, stats: Stats, predicted: Array, true: Array, weights: Array | None = None) -> None:
        place = true.astype(np.int64) * self.shape[-1] + predicted.astype(np.int64)
        if self.multilabel:
            place += 4 * np.arange(self.outputs)
        counts = None if weights is None else each(weights, place.shape).reshape(-1)
        stats += np.bincount(place.reshape(-1), counts, self.size)


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
            return mean([self.score(label[1, 1], label[:, 1].sum(), label[1].sum()) for label in counts])
        scores = [self.score(counts[c, c], counts[:, c].sum(), counts[c].sum()) for c in range(len(counts))]
        return scores[1] if self.outputs == 1 else mean(scores)


class _IoUs(_Counts):
    """Intersection / union (Jaccard index) of each class or label."""

    def parts(self, stats: Stats) -> tuple[Array, Array]:
        """Return the sizes of all intersections, and of all unions."""
        counts = stats.reshape(self.shape)
        if self.multilabel:
            return counts[:, 1, 1], counts.sum(axis=(1, 2)) - counts[:, 0, 0]
        right = np.diagonal(counts)
        return right, counts.sum(axis=0) + counts.sum(axis=1) - right


@dataclass(frozen=True)
class IoU(_IoUs):
    """Intersection / union of one class, or of one of several labels a sample; NaN if it does not occur."""

    of_class: int = field(default=1, kw_only=True)

    def value(self, stats: Stats) -> float:  # noqa: D102
        right, total = self.parts(stats)
        return ratio(right[self.of_class], total[self.of_class])


class MeanIoU(_IoUs):
    """Mean over the classes that occur, in targets or predictions, of intersection / union (Jaccard index).

    Of one output both classes count, as in Keras. For several labels a sample: the mean over labels, each of which is a
    class that may be true.
    """

    def value(self, stats: Stats) -> float:  # noqa: D102
        right, total = self.parts(stats)
        occurs = total > 0
        return mean(list(right[occurs] / total[occurs])) if occurs.any() else float("nan")


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

"""Metrics that are a sum over samples or outputs, divided by their number; and R2, which is made of such sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hpcnn.training.metrics.base import Array, ClassMetric, Metric, Stats, blocks, each, mean, ratio, true_of


class Share(Metric):
    """A sum divided by a number of samples or outputs: the two entries of its stats."""

    size = 2

    def add_share(self, stats: Stats, values: Array, weights: Array | None) -> None:
        """Add values (n, ...), each of which counts as its sample does."""
        if weights is None:
            counts = values.dtype == np.bool_
            stats[0] += np.count_nonzero(values) if counts else np.add.reduce(values, axis=None, dtype=np.float64)
            stats[1] += values.size
            return
        shares = each(weights, values.shape)
        stats[0] += np.add.reduce(values * shares, axis=None)
        stats[1] += np.add.reduce(shares, axis=None)

    def value(self, stats: Stats) -> float:  # noqa: D102
        return ratio(stats[0], stats[1])


class _Error(Share):
    """The mean of a function of output - target over all outputs."""

    targets = "rows"
    lower_is_better = True
    of: ClassVar[np.ufunc]

    def add(self, stats: Stats, outputs: Array, targets: Array, weights: Array | None = None) -> None:
        for rows in blocks(outputs):
            own = None if weights is None else weights[rows]
            self.add_share(stats, self.of(outputs[rows] - targets[rows]), own)


class Accuracy(Share, ClassMetric):
    """Share of samples whose class is right: output above 0.5 for one output, the largest output otherwise.

    For several labels a sample: the share of labels that are right, output above 0.5. (Keras, which knows shapes alone,
    takes the largest output there as well.)
    """

    def add_decided(  # noqa: D102
        self, stats: Stats, predicted: Array, true: Array, weights: Array | None = None
    ) -> None:
        self.add_share(stats, predicted == true, weights)


class CategoricalAccuracy(Accuracy):
    """Accuracy of several outputs against rows."""

    targets = "rows"
    one_class = True
    fewest_outputs = 2


class SparseCategoricalAccuracy(Accuracy):
    """Accuracy against integer labels."""

    targets = "labels"


class BinaryAccuracy(Share):
    """Share of outputs on the right side of 0.5, each output on its own."""

    targets = "rows"
    counts = True

    def add(self, stats: Stats, outputs: Array, targets: Array, weights: Array | None = None) -> None:  # noqa: D102
        self.add_share(stats, (outputs > 0.5) == (targets > 0.5), weights)


@dataclass(frozen=True)
class TopKAccuracy(Share):
    """Share of samples whose true class is among the k largest outputs; ties count for the sample, as in Keras."""

    k: int = 5
    counts = True
    one_class = True
    fewest_outputs = 2

    def add(self, stats: Stats, outputs: Array, targets: Array, weights: Array | None = None) -> None:  # noqa: D102
        true = true_of(targets, self)[..., np.newaxis]
        not_above = outputs <= np.take_along_axis(outputs, true, axis=-1)  # never true of NaN
        above = self.outputs - np.count_nonzero(not_above, axis=-1)
        self.add_share(stats, above < self.k, weights)


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

    def add(self, stats: Stats, outputs: Array, targets: Array, weights: Array | None = None) -> None:  # noqa: D102
        k = self.outputs
        for rows in blocks(outputs):
            y = targets[rows].reshape(-1, k).astype(np.float64)
            counts = None if weights is None else each(weights[rows], outputs[rows].shape[:-1]).reshape(-1, 1)
            stats[-1] += len(y) if counts is None else counts.sum()
            for place, values in enumerate((np.square(outputs[rows].reshape(-1, k) - y), y, np.square(y))):
                stats[place * k : (place + 1) * k] += (values if counts is None else values * counts).sum(axis=0)

    def value(self, stats: Stats) -> float:  # noqa: D102
        residual, total, squares = np.split(stats[:-1], 3)
        if not stats[-1]:
            return float("nan")
        spread = squares - total**2 / stats[-1]
        spread[spread < 1e-13 * squares] = 0
        return mean([1 - ratio(r, s) for r, s in zip(residual, spread, strict=True)])

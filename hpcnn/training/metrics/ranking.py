"""Metrics of how outputs order the samples."""

from __future__ import annotations

import math

import numpy as np

from hpcnn.training.metrics.base import Array, CollectedMetric, each, mean, true_of


class AUC(CollectedMetric):
    """Area under the ROC curve: how often a sample of a class has a larger output for it than one that is not of it.

    Equal outputs count half. Of one output, or of two classes, it is that of the second class; of more classes the mean
    over them, each against the others, and of labels the mean over labels. Classes and labels of which either kind of
    sample is missing are left out; if none is left, it is not defined. Pairs are counted as whole numbers.
    """

    @property
    def row_shape(self) -> tuple[int, ...]:
        """An output and a signed weight for each class that counts."""
        return 2, 1 if self.outputs == 2 and not self.multilabel else self.outputs

    def rows(self, outputs: Array, targets: Array, weights: Array | None = None) -> Array:
        """Return outputs, and weights: those of samples for which a class or label is not true are negative."""
        scores, true = outputs.reshape(-1, self.outputs), true_of(targets, self)
        if self.multilabel or self.outputs == 1:
            truth = true.reshape(scores.shape) > 0.5
        else:
            truth = true.reshape(-1, 1) == np.arange(self.outputs)
        counts = 1 if weights is None else each(weights, outputs.shape[:-1]).reshape(-1, 1)
        columns = slice(scores.shape[1] - self.row_shape[1], None)
        signed = np.where(truth, counts, np.negative(counts))
        return np.stack([scores[:, columns], signed[:, columns].astype(scores.dtype)], axis=1)

    def of_rows(self, rows: Array) -> float:
        """Return the area, the mean over classes or labels."""
        areas = [area(scores, signed) for scores, signed in np.moveaxis(rows, 0, 2).swapaxes(0, 1)]
        if np.isnan(rows).any():
            return math.nan
        defined = [one for one in areas if not math.isnan(one)]
        return mean(defined) if defined else math.nan


def area(scores: Array, signed: Array) -> float:
    """Return the area under the ROC curve; NaN if all samples are true, or none is.

    `signed` are the weights of the samples, negative where one is not true.

    >>> area(np.array([0.1, 0.4, 0.35, 0.8]), np.array([-1, -1, 1, 1]))
    0.75
    """
    alike = bool((np.abs(signed) == 1).all())
    order = np.argsort(scores) if alike else np.lexsort((signed, scores))  # sums of weights depend on their order
    scores, signed = scores[order], signed[order].astype(np.int64 if alike else np.float64)
    last = np.append(np.flatnonzero(scores[1:] != scores[:-1]), len(scores) - 1) if len(scores) else np.arange(0)
    true, false = (np.cumsum(np.maximum(counts, 0))[last] for counts in (signed, -signed))
    if not len(last) or not true[-1] or not false[-1]:
        return math.nan
    # Twice the pairs in order: for each value, its true samples with the false ones below, twice, and beside them.
    above = np.diff(true, prepend=0) * (2 * np.append(0, false[:-1]) + np.diff(false, prepend=0))
    return float(above.sum().item() / (2 * true[-1].item() * false[-1].item()))

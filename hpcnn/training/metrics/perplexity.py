"""The perplexity: how many classes a model hesitates between, on average."""

from __future__ import annotations

import math

import numpy as np

from hpcnn.training.metrics.base import Array, Stats, blocks, ratio
from hpcnn.training.metrics.shares import Share

_EPSILON = 1e-7
"""Probabilities are kept this far from 0 and 1, as in the cross-entropies."""
_CATEGORICAL, _SPARSE = 4, 5
"""Numbers of the cross-entropies of rows and of labels in the core."""


class Perplexity(Share):
    """exp of the mean cross-entropy of all samples' positions; outputs are divided by their sum, as in the loss.

    The sum of the cross-entropies and the number of positions travel; the exponential comes last.
    """

    one_class = True
    fewest_outputs = 2
    lower_is_better = True

    def add(self, stats: Stats, outputs: Array, targets: Array, weights: Array | None = None) -> None:  # noqa: D102
        losses = _core_losses if self.arithmetic == "native" else _losses
        for rows in blocks(outputs):
            terms = losses(outputs[rows].reshape(-1, self.outputs), targets[rows], labels=self.labels)
            self.add_share(stats, terms.reshape(outputs[rows].shape[:-1]), None if weights is None else weights[rows])

    def value(self, stats: Stats) -> float:
        """Return the metric; infinite where the exponential is too large."""
        mean = ratio(stats[0], stats[1])
        if self.arithmetic == "native" and mean == mean:
            from hpcnn.kernels import core

            return core.exp(mean)
        return math.exp(mean) if mean < 709 or mean != mean else math.inf


def _losses(outputs: Array, targets: Array, *, labels: bool) -> Array:
    """Return the cross-entropy of each row in NumPy."""
    p = outputs / np.add.reduce(outputs, axis=1, keepdims=True, dtype=np.float64)
    logs: Array = np.log(np.clip(p, _EPSILON, 1 - _EPSILON))
    if labels:
        picked: Array = logs[np.arange(len(logs)), targets.reshape(-1)]
    else:
        picked = np.vecdot(targets.reshape(p.shape).astype(np.float64), logs)
    return -picked


def _core_losses(outputs: Array, targets: Array, *, labels: bool) -> Array:
    """Return the same by the core, whose logarithms are the same on every processor."""
    from hpcnn.kernels import core

    outputs = np.require(outputs, outputs.dtype if outputs.dtype.char in "fd" else np.float64, "C")
    kind = _SPARSE if labels else _CATEGORICAL
    given = np.require(targets.reshape(-1 if labels else outputs.shape), np.int64 if labels else outputs.dtype, "C")
    terms = np.empty(len(outputs))
    core.loss(kind, False, outputs, given, None, None, None, terms, 0.0, 1.0, 0.0, 0.0, None)
    return terms

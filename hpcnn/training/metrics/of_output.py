"""A metric of one of several outputs, of which a network gives rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpcnn.nn.several_losses import OutputLoss
from hpcnn.training.metrics.base import Array, Metric, Stats, WrappedMetric, counted_of


@dataclass(frozen=True, kw_only=True)
class OutputMetric(WrappedMetric):
    """What another metric is of one output."""

    part: OutputLoss

    def add(self, stats: Stats, outputs: Array, targets: Array, weights: Array | None = None) -> None:
        """Add samples, given as rows of all outputs and of all targets."""
        own, true = self.part.output.of(outputs), self.part.targets_in(targets)
        if self.labels:
            true = true.astype(np.int64, copy=False)
        ignored = self.part.bound.ignore_class
        if ignored is not None:
            own, true, weights = counted_of(true != ignored, own, true, weights)
        self.metric.add(stats, own, true, weights)


def metric_of_output(metric: Metric, part: OutputLoss) -> OutputMetric:
    """Return a metric of one output, named after both."""
    name = f"{part.name}_{metric.name}"
    return OutputMetric(name, metric.outputs, metric.labels, metric.multilabel, metric=metric, part=part)

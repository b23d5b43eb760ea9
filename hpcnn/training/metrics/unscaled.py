"""A metric of targets that were scaled, in the units of the data."""

from __future__ import annotations

from dataclasses import dataclass

from hpcnn.data.samples import Scaling
from hpcnn.training.metrics.base import Array, Metric, Stats, WrappedMetric, blocks


@dataclass(frozen=True, kw_only=True)
class UnscaledMetric(WrappedMetric):
    """Another metric of outputs and targets as they were before they were scaled, computed in float64."""

    scaling: Scaling

    def add(self, stats: Stats, outputs: Array, targets: Array, weights: Array | None = None) -> None:
        """Add samples, given as the network has them."""
        for rows in blocks(outputs):
            own = None if weights is None else weights[rows]
            self.metric.add(stats, self.scaling.undone(outputs[rows]), self.scaling.undone(targets[rows]), own)


def unscaled(metric: Metric, scaling: Scaling | None) -> Metric:
    """Return a metric in the units of the data."""
    if scaling is None:
        return metric
    return UnscaledMetric(metric.name, metric.outputs, metric.labels, metric.multilabel, metric=metric, scaling=scaling)

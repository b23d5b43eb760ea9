"""A metric of targets that were scaled, in the units of the data."""

from __future__ import annotations

from dataclasses import dataclass

from hpcnn.data.samples import Scaling
from hpcnn.training.metrics.base import Array, Metric, Stats, Value, blocks


@dataclass(frozen=True, kw_only=True)
class UnscaledMetric(Metric):
    """Another metric of outputs and targets as they were before they were scaled, computed in float64."""

    metric: Metric
    scaling: Scaling

    def __post_init__(self) -> None:
        for fact in ("counts", "lower_is_better"):  # of the other metric's class
            object.__setattr__(self, fact, getattr(self.metric, fact))

    @property
    def size(self) -> int:
        """How many numbers the metric needs."""
        return self.metric.size

    def add(self, stats: Stats, outputs: Array, targets: Array, weights: Array | None = None) -> None:
        """Add samples, given as the network has them."""
        for rows in blocks(outputs):
            own = None if weights is None else weights[rows]
            self.metric.add(stats, self.scaling.undone(outputs[rows]), self.scaling.undone(targets[rows]), own)

    def value(self, stats: Stats) -> Value:
        """Return the metric of all samples in `stats`."""
        return self.metric.value(stats)


def unscaled(metric: Metric, scaling: Scaling | None) -> Metric:
    """Return a metric in the units of the data."""
    if scaling is None:
        return metric
    return UnscaledMetric(metric.name, metric.outputs, metric.labels, metric.multilabel, metric=metric, scaling=scaling)

"""Metrics as sums: each rank adds up its samples, the sums are added over ranks, and the division comes last."""

from hpcnn.training.metrics.base import ClassMetric, CollectedMetric, Metric, Value, counted_of
from hpcnn.training.metrics.build import (
    METRICS,
    build_metric,
    build_metrics,
    is_multilabel,
    lower_is_better,
    plain_values,
    scalars,
)
from hpcnn.training.metrics.of_output import metric_of_output
from hpcnn.training.metrics.shares import R2, Accuracy
from hpcnn.training.metrics.unscaled import unscaled

__all__ = [
    "METRICS",
    "R2",
    "Accuracy",
    "ClassMetric",
    "CollectedMetric",
    "Metric",
    "Value",
    "build_metric",
    "build_metrics",
    "counted_of",
    "is_multilabel",
    "lower_is_better",
    "metric_of_output",
    "plain_values",
    "scalars",
    "unscaled",
]

"""The float64 vector that travels beside the gradient: count, loss, metrics and stop flags, all of them sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hpcnn.training.metrics import ClassMetric, CollectedMetric, Metric, Value, counted_of

Stats = NDArray[np.float64]

WEIGHT, LOSS, PENALTY, STOP, SAVE, COUNT = range(6)
_FIRST_METRIC = 6


class StatsLayout:
    """The place of each sum.

    `WEIGHT` is the sum of the weights of the samples, their number where they have none; `LOSS` the sum of their
    losses, times the weights; `PENALTY` the same of the penalties that held for them; `STOP` the number of ranks that
    were asked to stop, `SAVE` that of ranks that find it time for a checkpoint, `COUNT` the number of samples.
    Positions with the label `ignore_class` are in no metric. `losses` are the weights of several outputs by name: then
    the sum of each output's losses, times its weight, follows.
    """

    def __init__(
        self, metrics: Sequence[Metric], ignore_class: int | None = None, losses: Mapping[str, float] | None = None
    ) -> None:
        self.metrics, self.ignore_class = tuple(metrics), ignore_class
        self._weights = dict(losses or {})
        position = _FIRST_METRIC + len(self._weights)
        self.losses = [LOSS, *range(_FIRST_METRIC, position)]
        """Where the sum of all losses is, and that of each of several outputs."""
        self.parts: list[slice] = []
        """Where the numbers of each metric are."""
        for metric in metrics:
            self.parts.append(slice(position, position + metric.size))
            position += metric.size
        self.size = position

    def zeros(self) -> Stats:
        """Return stats over no sample."""
        return np.zeros(self.size)

    def set_losses(self, stats: Stats, sums: float | NDArray[np.float64]) -> None:
        """Write what a loss returned: one sum, or that of all outputs and those of each."""
        stats[self.losses] = sums

    def add_metrics(
        self,
        stats: Stats,
        outputs: NDArray[np.floating],
        targets: NDArray[np.generic],
        weights: NDArray[np.floating] | None = None,
        places: Sequence[int] | None = None,
    ) -> None:
        """Add the metrics of a piece of samples: all of them, or those in these places. `weights`: of samples, (n,)."""
        outputs, targets, weights = self._counted(outputs, targets, weights)
        decided = None
        for place in range(len(self.metrics)) if places is None else places:
            metric, part = self.metrics[place], self.parts[place]
            if isinstance(metric, ClassMetric):
                decided = decided or metric.decide(outputs, targets)
                metric.add_decided(stats[part], *decided, weights)
            else:
                metric.add(stats[part], outputs, targets, weights)

    @property
    def collected(self) -> list[CollectedMetric]:
        """The metrics of an evaluation that need all samples at once."""
        return [metric for metric in self.metrics if isinstance(metric, CollectedMetric)]

    def rows(
        self,
        outputs: NDArray[np.floating],
        targets: NDArray[np.generic],
        weights: NDArray[np.floating] | None = None,
    ) -> list[NDArray[np.generic]]:
        """Return what each of these is to keep of a piece of samples."""
        outputs, targets, weights = self._counted(outputs, targets, weights)
        return [metric.rows(outputs, targets, weights) for metric in self.collected]

    def _counted(
        self, outputs: NDArray[np.floating], targets: NDArray[np.generic], weights: NDArray[np.floating] | None
    ) -> tuple[NDArray[np.floating], NDArray[np.generic], NDArray[np.floating] | None]:
        """Leave out the positions that are in no metric."""
        if self.ignore_class is None or not self.metrics:
            return outputs, targets, weights
        return counted_of(targets != self.ignore_class, outputs, targets, weights)

    def values(self, stats: Stats, prefix: str = "") -> Mapping[str, Value]:
        """Return the mean loss and each metric by name but those that are collected: sums are divided here."""
        total = stats[WEIGHT]
        values: dict[str, Value] = {
            f"{prefix}loss": float((stats[LOSS] + stats[PENALTY]) / total) if total else float("nan")
        }
        for (name, weight), place in zip(self._weights.items(), self.losses[1:], strict=True):
            values[f"{prefix}{name}_loss"] = float(stats[place] / (total * weight)) if total else float("nan")
        for metric, part in zip(self.metrics, self.parts, strict=True):
            if isinstance(metric, CollectedMetric):
                continue
            values[prefix + metric.name] = metric.value(stats[part])
        return values

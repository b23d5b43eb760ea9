"""The float64 vector that travels beside the gradient: count, loss, metrics and stop flags, all of them sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hpcnn.training.metrics import ClassMetric, CollectedMetric, Metric, Value

Stats = NDArray[np.float64]

COUNT, LOSS, PENALTY, STOP, SAVE = range(5)
_FIRST_METRIC = 5


class StatsLayout:
    """The place of each sum.

    `COUNT` is the number of samples, `LOSS` the sum of their losses, `PENALTY` the sum of the penalties that held for
    them, `STOP` the number of ranks that were asked to stop, `SAVE` that of ranks that find it time for a checkpoint.
    Positions with the label `ignore_class` are in no metric.
    """

    def __init__(self, metrics: Sequence[Metric], ignore_class: int | None = None) -> None:
        self.metrics, self.ignore_class = tuple(metrics), ignore_class
        self.parts: list[slice] = []
        """Where the numbers of each metric are."""
        position = _FIRST_METRIC
        for metric in metrics:
            self.parts.append(slice(position, position + metric.size))
            position += metric.size
        self.size = position

    def zeros(self) -> Stats:
        """Return stats over no sample."""
        return np.zeros(self.size)

    def add_metrics(
        self,
        stats: Stats,
        outputs: NDArray[np.floating],
        targets: NDArray[np.generic],
        places: Sequence[int] | None = None,
    ) -> None:
        """Add the metrics of a piece of samples: all of them, or those in these places."""
        outputs, targets = self._counted(outputs, targets)
        decided = None
        for place in range(len(self.metrics)) if places is None else places:
            metric, part = self.metrics[place], self.parts[place]
            if isinstance(metric, ClassMetric):
                decided = decided or metric.decide(outputs, targets)
                metric.add_decided(stats[part], *decided)
            else:
                metric.add(stats[part], outputs, targets)

    @property
    def collected(self) -> list[CollectedMetric]:
        """The metrics of an evaluation that need all samples at once."""
        return [metric for metric in self.metrics if isinstance(metric, CollectedMetric)]

    def rows(self, outputs: NDArray[np.floating], targets: NDArray[np.generic]) -> list[NDArray[np.generic]]:
        """Return what each of these is to keep of a piece of samples."""
        outputs, targets = self._counted(outputs, targets)
        return [metric.rows(outputs, targets) for metric in self.collected]

    def _counted(
        self, outputs: NDArray[np.floating], targets: NDArray[np.generic]
    ) -> tuple[NDArray[np.floating], NDArray[np.generic]]:
        """Leave out the positions that are in no metric."""
        if self.ignore_class is None or not self.metrics:
            return outputs, targets
        counted = targets != self.ignore_class
        return outputs[counted], targets[counted]

    def values(self, stats: Stats, prefix: str = "") -> Mapping[str, Value]:
        """Return the mean loss and each metric by name but those that are collected: sums are divided here."""
        count = stats[COUNT]
        values: dict[str, Value] = {
            f"{prefix}loss": float((stats[LOSS] + stats[PENALTY]) / count) if count else float("nan")
        }
        for metric, part in zip(self.metrics, self.parts, strict=True):
            if isinstance(metric, CollectedMetric):
                continue
            values[prefix + metric.name] = metric.value(stats[part])
        return values

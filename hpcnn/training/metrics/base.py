"""What a metric is: sums over samples, which are added over ranks, and a division that comes last."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Stats = NDArray[np.float64]
Value = float | NDArray[np.float64]


@dataclass(frozen=True)
class Metric(ABC):
    """One metric. Outputs are (n, *shape, k); targets are labels (n, *shape), or rows of the outputs' shape."""

    name: str
    outputs: int
    """Width k of the outputs."""
    labels: bool
    """Whether targets are integer labels."""
    multilabel: bool = False
    """Whether each output is a label of its own, true above 0.5; else they are those of k classes, of which one is
    true (or, for one output, of two)."""
    targets: ClassVar[Literal["any", "labels", "rows"]] = "any"
    """The targets that it can be had from: integer labels, rows, or either."""
    one_class: ClassVar[bool] = False
    """Whether it needs classes of which one is true."""
    fewest_outputs: ClassVar[int] = 1
    counts: ClassVar[bool] = False
    """Whether its numbers are whole, so that they are the same in any order."""
    lower_is_better: ClassVar[bool] = False
    """Whether an improvement is a fall."""
    arithmetic: str = field(default="numpy", kw_only=True)
    """What computes logarithms and exponentials; see ``train.arithmetic`` of a job."""

    @property
    @abstractmethod
    def size(self) -> int:
        """How many numbers the metric needs."""

    @abstractmethod
    def add(self, stats: Stats, outputs: Array, targets: Array, weights: Array | None = None) -> None:
        """Add the samples to `stats`, float64 of shape (size,). `weights`, (n,): how much each sample counts."""

    @abstractmethod
    def value(self, stats: Stats) -> Value:
        """Return the metric of all samples in `stats`; NaN where it is not defined."""


class ClassMetric(Metric):
    """A metric of classes or true labels alone: of what outputs and targets are decided to be."""

    counts = True

    def add(self, stats: Stats, outputs: Array, targets: Array, weights: Array | None = None) -> None:
        """Decide, and add the samples."""
        self.add_decided(stats, *self.decide(outputs, targets), weights)

    def decide(self, outputs: Array, targets: Array) -> tuple[Array, Array]:
        """Return what is predicted and what is true: classes (n, *shape), or which labels are true (n, *shape, k).

        The same for all metrics of one model, so that several of them need it once.
        """
        return decided(outputs, self), true_of(targets, self)

    @abstractmethod
    def add_decided(self, stats: Stats, predicted: Array, true: Array, weights: Array | None = None) -> None:
        """Add the samples to `stats`, float64 of shape (size,)."""


class CollectedMetric(Metric):
    """A metric that needs all samples at once: of an evaluation, at whose end their rows come together on rank 0.

    It is not computed of training steps. The order of the rows must not matter to it.
    """

    @property
    def size(self) -> int:
        """No number travels with the sums."""
        return 0

    def add(self, stats: Stats, outputs: Array, targets: Array, weights: Array | None = None) -> None:
        """Leave the sums as they are."""

    def value(self, stats: Stats) -> Value:
        """Return NaN: sums do not tell."""
        return math.nan

    @property
    @abstractmethod
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row."""

    @abstractmethod
    def rows(self, outputs: Array, targets: Array, weights: Array | None = None) -> Array:
        """Return what is to be kept of samples: shape (n, *row_shape)."""

    @abstractmethod
    def of_rows(self, rows: Array) -> Value:
        """Return the metric of all samples; NaN where it is not defined."""


@dataclass(frozen=True, kw_only=True)
class WrappedMetric(Metric):
    """Another metric, of outputs and targets that are changed before."""

    metric: Metric

    def __post_init__(self) -> None:
        for fact in ("counts", "lower_is_better"):  # of the other metric's class
            object.__setattr__(self, fact, getattr(self.metric, fact))

    @property
    def size(self) -> int:
        """How many numbers the metric needs."""
        return self.metric.size

    def value(self, stats: Stats) -> Value:
        """Return the metric of all samples in `stats`."""
        return self.metric.value(stats)


def each(weights: Array, shape: tuple[int, ...]) -> Array:
    """Return the weights of samples, (n,), for all entries of an array of `shape`, (n, ...)."""
    wide = weights.reshape(-1, *(1,) * (len(shape) - 1)).astype(np.float64, copy=False)
    return np.broadcast_to(wide, shape)


def counted_of(
    counted: Array, outputs: Array, targets: Array, weights: Array | None
) -> tuple[Array, Array, Array | None]:
    """Return the positions that are `counted`, (n, *shape), with the weights of their samples."""
    weights = None if weights is None else each(weights, counted.shape)[counted]
    return outputs[counted], targets[counted], weights


def ratio(part: float, whole: float) -> float:
    """Return part / whole; NaN if the whole is 0."""
    return float(part / whole) if whole else float("nan")


def mean(values: Sequence[float]) -> float:
    """Return the mean; the sum is exact, so that no order matters."""
    return math.fsum(values) / len(values)


def blocks(outputs: Array) -> Iterator[slice]:
    """Yield rows of at most 4,096 entries at a time (one at least), so that temporaries stay small."""
    rows = max(1, 4096 * len(outputs) // max(1, outputs.size))
    for start in range(0, len(outputs), rows):
        yield slice(start, start + rows)


def decided(rows: Array, metric: Metric) -> Array:
    """Return what rows of outputs or targets say: the class (n, *shape), or which labels are true (n, *shape, k)."""
    if metric.multilabel:
        return rows > 0.5
    return rows[..., 0] > 0.5 if metric.outputs == 1 else np.argmax(rows, axis=-1)


def true_of(targets: Array, metric: Metric) -> Array:
    """Return what targets say, as `decided` has it."""
    return targets if metric.labels else decided(targets, metric)

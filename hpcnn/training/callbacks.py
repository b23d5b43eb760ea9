"""Hooks of the training loop, and the two callbacks that steer it: early stopping and lower rates on a plateau."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from hpcnn.errors import JobError
from hpcnn.job.schema import EarlyStopping as EarlyStoppingSection
from hpcnn.job.schema import ReduceOnPlateau as ReduceOnPlateauSection
from hpcnn.training.metrics import Value, lower_is_better, plain_values
from hpcnn.training.replica import Replica
from hpcnn.training.step_stats import Stats

Array = NDArray[Any]


@dataclass(slots=True)
class StepReport:
    """What one step came to. Values and rate are computed when they are asked for."""

    epoch: int
    """The epoch that the step is in, from 1."""
    step_in_epoch: int
    """Updates done in this epoch."""
    step: int
    """Updates done in all."""
    replica: Replica
    lr_scale: float
    """What schedule and callbacks multiply the learning rate by."""
    stats: Stats
    """Sums over the samples of the batch."""

    @property
    def values(self) -> dict[str, Value]:
        """``loss`` and the metrics over the batch, as they were before the update."""
        return dict(self.replica.model.layout.values(self.stats))

    @property
    def learning_rate(self) -> float:
        """Rate of the update."""
        return self.replica.learning_rate(self.step - 1, self.lr_scale)


@dataclass(frozen=True)
class EpochReport:
    """What one epoch came to."""

    epoch: int
    """Epochs done, from 1."""
    step: int
    """Updates done in all."""
    learning_rate: float
    """Rate of the epoch's last update."""
    values: Mapping[str, Value]
    """``loss`` and the metrics over the epoch, and with the prefix ``val_`` over the validation data after it."""
    seconds: float
    samples_per_s: float

    def line(self) -> dict[str, Any]:
        """Return the report as ``metrics.jsonl`` and loggers have it."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "learning_rate": self.learning_rate,
            **plain_values(self.values),
            "seconds": self.seconds,
            "samples_per_s": self.samples_per_s,
        }


@dataclass(slots=True)
class Control:
    """What a callback may change.

    >>> control = Control()
    >>> control.stop("good enough")
    >>> control.reason
    'good enough'
    """

    reason: str = ""
    """Why the training ends after this epoch; empty: it does not."""

    def stop(self, reason: str) -> None:
        """End the training after this epoch, and say why. The first reason stays.

        Raises:
            JobError: the reason is no text, or an empty one.
        """
        if not (isinstance(reason, str) and reason):
            raise JobError(f"control.stop({reason!r}): say why the training ends, as in control.stop('good enough')")
        self.reason = self.reason or reason


class Callback:
    """Base of callbacks: called on all ranks, in the same order. Guard output with the rank, never a collective.

    >>> class Threshold(Callback):
    ...     def on_epoch_end(self, report, replica, control):
    ...         if report.values["loss"] < 0.1:
    ...             control.stop(f"good enough after {report.epoch} epochs")
    """

    def on_train_begin(self, epoch: int, replica: Replica) -> None:
        """Training is about to start, with `epoch` epochs done."""

    def on_step(self, report: StepReport) -> None:
        """A step is done."""

    def on_epoch_end(self, report: EpochReport, replica: Replica, control: Control) -> None:
        """An epoch and its validation are done."""

    def rate_factor(self) -> float:
        """Return what multiplies the learning rate in the epoch that begins."""
        return 1.0

    def on_train_end(self, replica: Replica) -> None:
        """The training is complete (not when it was stopped early to be resumed)."""

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must keep of this callback, as JSON can hold it: numbers, text, lists, dicts."""
        return {}

    def arrays(self) -> dict[str, Array]:
        """Return the arrays that a checkpoint must keep of this callback, of any shape, of numbers or booleans."""
        return {}

    def load(self, state: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Go on from what `state` and `arrays` returned."""


def improves(name: str, value: float, best: float | None, min_delta: float = 0.0) -> bool:
    """Return whether `value` of the metric `name` is better than `best` by more than `min_delta`. NaN never is.

    >>> improves("val_loss", 0.1, 0.2), improves("val_accuracy", 0.1, 0.2), improves("loss", 1.0, None)
    (True, False, True)
    """
    if math.isnan(value):
        return False
    if best is None:
        return True
    return value < best - min_delta if lower_is_better(name) else value > best + min_delta


@dataclass
class _Watch:
    """A value, its best so far, and for how many epochs it has not improved."""

    monitor: str
    min_delta: float
    best: float | None = None
    waited: int = 0

    def improved(self, report: EpochReport) -> bool:
        value = report.values[self.monitor]
        assert isinstance(value, float), f"{self.monitor} is no single number"
        if improves(self.monitor, value, self.best, self.min_delta):
            self.best, self.waited = value, 0
            return True
        self.waited += 1
        return False

    def state(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited}

    def load(self, state: Mapping[str, Any]) -> None:
        self.best, self.waited = state["best"], state["waited"]


class EarlyStopping(Callback):
    """Ends the training when a value has not improved for `patience` epochs, and brings the best weights back."""

    def __init__(self, section: EarlyStoppingSection) -> None:
        self._section = section
        self._watch = _Watch(section.monitor, section.min_delta)
        self._best: dict[str, Array] = {}

    def on_epoch_end(self, report: EpochReport, replica: Replica, control: Control) -> None:
        """Count, remember, decide."""
        if self._watch.improved(report):
            if self._section.restore_best:
                self._best = replica.weights()
        elif self._watch.waited >= self._section.patience:
            control.stop(f"{self._section.monitor} has not improved for {self._watch.waited} epochs")

    def on_train_end(self, replica: Replica) -> None:
        """Bring the best weights back."""
        if self._best:
            replica.load_weights(self._best)

    def state(self) -> dict[str, Any]:
        """Return the best value and the wait."""
        return self._watch.state()

    def arrays(self) -> dict[str, Array]:
        """Return the best weights."""
        return self._best

    def load(self, state: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Go on."""
        self._watch.load(state)
        self._best = dict(arrays)


@dataclass
class ReduceOnPlateau(Callback):
    """Lowers the learning rate when a value has not improved for `patience` epochs."""

    section: ReduceOnPlateauSection
    factor: float = 1.0
    _watch: _Watch = field(init=False)

    def __post_init__(self) -> None:
        self._watch = _Watch(self.section.monitor, self.section.min_delta)

    def on_epoch_end(self, report: EpochReport, replica: Replica, control: Control) -> None:
        """Count, and lower the rate if it is time."""
        section = self.section
        if not self._watch.improved(report) and self._watch.waited >= section.patience:
            self._watch.waited = 0
            lowered = max(report.learning_rate * section.factor, section.min_learning_rate)
            if lowered < report.learning_rate:
                self.factor *= lowered / report.learning_rate

    def rate_factor(self) -> float:
        """Return the product of all drops so far."""
        return self.factor

    def state(self) -> dict[str, Any]:
        """Return the best value, the wait and the factor."""
        return {**self._watch.state(), "factor": self.factor}

    def load(self, state: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Go on."""
        self._watch.load(state)
        self.factor = state["factor"]

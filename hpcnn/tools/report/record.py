"""The record of one run for a report: plain values, whatever the state of its files."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcnn.core.critical_batch import NOISE_SCALE, critical_batch
from hpcnn.runs.prediction.record import RunTimes
from hpcnn.tools.report.time_accounts import TimeAccount
from hpcnn.tools.report.values import number, whole

Points = list[tuple[int, float | None]]
"""A value after each epoch; None where it is no finite number."""

VALIDATION = "val_"
MOST_VALUES = 24
"""A file with more values an epoch is not hpcnn's; the rest is left out."""
MOST_CLASSES = 2000
_NO_VALUES = ("epoch", "step", "learning_rate", "seconds", "samples_per_s", NOISE_SCALE)


@dataclass(frozen=True)
class RunRecord:
    """The contents of a run folder. Missing values are empty."""

    path: Path
    name: str
    state: str
    """As `hpcnn status` says it."""
    why: str
    """What that means."""
    job: str
    """The resolved job, TOML."""
    settings: Mapping[str, Any]
    """The job as tables."""
    epochs: Sequence[Mapping[str, Any]]
    """A table for each epoch, in order."""
    result: Mapping[str, Any]
    progress: Mapping[str, Any]
    environment: Mapping[str, str]
    weights_sha256: str
    weights_of: str
    """Which weights those are, in words."""
    attempts: Sequence[Mapping[str, Any]]
    accounts: Sequence[TimeAccount]
    times: RunTimes
    """Of the ranks that it had last."""
    troubles: Sequence[str]
    """Sentences on missing or damaged files."""
    input_shape: tuple[int, ...] = ()
    """Of one sample; empty where it is not known."""

    @property
    def values(self) -> list[str]:
        """Names of the values after each epoch that are single numbers, without those of validation."""
        names = dict.fromkeys(name for line in self.epochs for name, value in line.items() if _is_value(name, value))
        base = dict.fromkeys(name.removeprefix(VALIDATION) for name in names)
        return sorted(base, key=lambda name: name != "loss")[:MOST_VALUES]

    def points(self, name: str) -> Points:
        """Return a value after each epoch; empty if no epoch has it."""
        found = [(int(line["epoch"]), number(line.get(name))) for line in self.epochs if name in line]
        return found if any(value is not None for _, value in found) else []

    def has(self, name: str) -> bool:
        """Return whether any epoch has a value of this name, finite or not."""
        return any(name in line for line in self.epochs)

    def last(self, name: str) -> float | None:
        """Return a value after the last epoch."""
        return number(self.epochs[-1].get(name)) if self.epochs else None

    @property
    def monitor(self) -> str:
        """Name of the value that decides which state is the best."""
        if best := mapping(self.result.get("best")):
            return str(next(iter(best)))
        chosen = mapping(self.settings.get("run")).get("monitor")
        return str(chosen) if chosen else "val_loss" if self.points("val_loss") else "loss"

    def best(self, name: str) -> tuple[int, float] | None:
        """Return the epoch with the best value, and the value; None if there is none."""
        known = [(epoch, value) for epoch, value in self.points(name) if value is not None]
        if not known:
            return None
        return (min if lower_is_better(name) else max)(known, key=lambda point: point[1])

    @property
    def epochs_asked(self) -> int | None:
        """For how many epochs the job is to train."""
        train = self.settings.get("train")
        return whole(train.get("epochs")) if isinstance(train, dict) else whole(self.result.get("epochs_asked"))

    @property
    def batch_size(self) -> int | None:
        """Samples of a step; None if they are not known, as those of a full batch."""
        return whole(mapping(self.settings.get("train")).get("batch_size"))

    @property
    def noise_scale(self) -> float | None:
        """The last that is known."""
        return next(iter(self._known(NOISE_SCALE)[::-1]), None)

    @property
    def critical_batch(self) -> str:
        """What the noise scale says of the batch, in a sentence; empty where one of them is not known."""
        record = self.times.record
        scale, batch = self.noise_scale, self.batch_size or (record and record.batch)
        return f"Critical batch {critical_batch(scale, batch)}." if scale and batch else ""

    @property
    def ranks(self) -> int | None:
        """How many it had last."""
        return whole(self.result.get("ranks")) or whole(self.progress.get("ranks"))

    @property
    def samples_per_s(self) -> float | None:
        """The median over epochs: the first one is often slow."""
        known = self._known("samples_per_s")
        return statistics.median(known) if known else None

    @property
    def seconds(self) -> float | None:
        """Of the last attempt if the run is complete, else of all epochs."""
        if self.result:
            return number(self.result.get("seconds"))
        known = self._known("seconds")
        return sum(known) if known else None

    def _known(self, name: str) -> list[float]:
        return [value for _, value in self.points(name) if value is not None]

    def confusion(self) -> tuple[str, int, list[list[float]]] | None:
        """Return which samples, the epoch, and counts by true and predicted class; None if there are none."""
        for line in reversed(self.epochs):
            for name, samples in (("val_confusion_matrix", "validation"), ("confusion_matrix", "training")):
                if matrix := _matrix(line.get(name)):
                    return samples, int(line["epoch"]), matrix
        return None


def mapping(value: object) -> Mapping[str, Any]:
    """Return a table, which is empty where the value is none."""
    return value if isinstance(value, dict) else {}


def layers_of(settings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the tables of the layers in a job's settings."""
    layers = mapping(settings.get("model")).get("layers")
    return [layer for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []


def lower_is_better(name: str) -> bool:
    """Return whether a fall of the value is an improvement."""
    from hpcnn.training.callbacks import improves  # NumPy comes with it

    return improves(name, 0.0, 1.0)


def _is_value(name: str, value: Any) -> bool:
    plain = value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    return plain and name not in _NO_VALUES


def _matrix(value: Any) -> list[list[float]] | None:
    """Return a square table of counts; None if it is none."""
    if not isinstance(value, list) or not 2 <= len(value) <= MOST_CLASSES:
        return None
    if any(not isinstance(row, list) or len(row) != len(value) for row in value):
        return None
    rows = [[number(cell) for cell in row] for row in value]
    if any(cell is None or cell < 0 for row in rows for cell in row):
        return None
    return [[cell or 0.0 for cell in row] for row in rows]

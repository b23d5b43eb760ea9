"""What displays say of a run: facts of its start, news while it goes on, its pace, and words for numbers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hpcnn.core.formatting import counted
from hpcnn.training.metrics import scalars


@dataclass(frozen=True)
class RunInfo:
    """What a display says of a run beforehand."""

    job: str
    folder: str
    ranks: int
    hosts: int
    shards: int
    samples: int
    validation_samples: int
    parameters: int
    batch_size: int
    steps_per_epoch: int
    epochs: int

    @property
    def who(self) -> str:
        """The ranks, in words."""
        return f"{counted(self.ranks, 'rank')} on {counted(self.hosts, 'node')}"

    def lines(self) -> list[str]:
        """Return the heading."""
        held = f" + {self.validation_samples:,} for validation" if self.validation_samples else ""
        return [
            f"{self.job}: {self.who}, {counted(self.shards, 'gradient shard')}, results in {self.folder}",
            f"{counted(self.samples, 'sample')}{held}, {counted(self.parameters, 'parameter')}, "
            f"{counted(self.epochs, 'epoch')} of {counted(self.steps_per_epoch, 'step')}, "
            f"batches of {self.batch_size}",
        ]


@dataclass(frozen=True)
class Straggler:
    """The rank that the others wait for."""

    rank: int
    host: str
    ratio: float
    """Its own work, as a multiple of the median of the others'."""

    def __str__(self) -> str:
        return f"rank {self.rank} on {self.host} takes {self.ratio:.1f} times as long as the others"


@dataclass(frozen=True)
class News:
    """What a display asks for while the training goes on."""

    loss: Callable[[], float | None] = lambda: None
    """The loss over the current epoch so far; None at its start."""
    slowest: Callable[[], Straggler | None] = lambda: None
    """The rank that the others wait for; None if none is worth telling."""


class Pace:
    """How fast it goes, and how long it will take."""

    def __init__(self, facts: RunInfo) -> None:
        self._facts = facts
        self._begin = self._epoch_begin = time.monotonic()
        self._epoch = self._done_at_begin = self._step = self._step_at_begin = 0
        self._stepped = False

    def start(self, epoch: int) -> None:
        """Begin with `epoch` epochs done."""
        self._begin = self._epoch_begin = time.monotonic()
        self._epoch, self._done_at_begin = epoch, epoch * self._facts.steps_per_epoch

    def step(self, step_in_epoch: int) -> None:
        """Take note of a step."""
        if not self._stepped:  # a resumed run may begin within an epoch
            self._done_at_begin += step_in_epoch - 1
            self._step_at_begin = step_in_epoch - 1
            self._stepped = True
        self._step = step_in_epoch

    def end_epoch(self) -> None:
        """Take note of an epoch's end."""
        self._epoch += 1
        self._epoch_begin, self._step, self._step_at_begin = time.monotonic(), 0, 0

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self._epoch

    def left(self, step_in_epoch: int) -> float | None:
        """Return the seconds left, or None while there is nothing to judge by."""
        steps = self._facts.steps_per_epoch
        done = self._epoch * steps + step_in_epoch - self._done_at_begin
        if done <= 0:
            return None
        total = self._facts.epochs * steps - self._done_at_begin
        return (time.monotonic() - self._begin) / done * (total - done)

    def samples_per_s(self) -> float | None:
        """Return the rate over the current epoch so far, or None in its first second."""
        seconds, steps = time.monotonic() - self._epoch_begin, self._step - self._step_at_begin
        if seconds < 1 or not steps:
            return None
        return steps * self._facts.samples / self._facts.steps_per_epoch / seconds


def pairs(values: Mapping[str, Any]) -> list[str]:
    """Return name and value of each single number."""
    return [f"{name} {value:.4f}" for name, value in scalars(values).items()]

"""What the display and ``progress.json`` show of a run: its sizes, how far it is, its speed and the time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hpcnn.core.critical_batch import NOISE_SCALE
from hpcnn.core.formatting import counted, four_digits
from hpcnn.training.loop import Progress
from hpcnn.training.metrics import scalars


@dataclass(frozen=True)
class RunInfo:
    """The sizes of a run, which stay the same while it trains."""

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
    characters: int = 0
    """Of a text: how many different ones the training data have."""

    @property
    def ranks_on_hosts(self) -> str:
        """The numbers of ranks and of nodes, as text."""
        return f"{counted(self.ranks, 'rank')} on {counted(self.hosts, 'node')}"

    def lines(self) -> list[str]:
        """Return the heading."""
        validation = f" + {self.validation_samples:,} for validation" if self.validation_samples else ""
        characters = f", {self.characters:,} different characters" if self.characters else ""
        return [
            f"{self.job}: {self.ranks_on_hosts}, {counted(self.shards, 'gradient shard')}, results in {self.folder}",
            f"{counted(self.samples, 'sample')}{validation}, {counted(self.parameters, 'parameter')}, "
            f"{counted(self.epochs, 'epoch')} of {counted(self.steps_per_epoch, 'step')}, "
            f"batches of {self.batch_size}{characters}",
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


class LiveStatus:
    """The loss, the speed and the time left of a run while it trains, which advances `progress`.

    `epoch_loss` returns the loss of the current epoch so far; `straggler` the rank that the others wait for, or None.
    """

    def __init__(
        self,
        info: RunInfo,
        progress: Progress,
        epoch_loss: Callable[[], float | None] = lambda: None,
        straggler: Callable[[], Straggler | None] = lambda: None,
    ) -> None:
        self.info, self.progress, self.straggler = info, progress, straggler
        self._epoch_loss = epoch_loss
        self.start()

    def start(self) -> None:
        """Measure time and steps from now on."""
        self._begin, self._first_step = time.monotonic(), self.progress.step
        self.start_window()

    def start_window(self) -> None:
        """Measure the speed from now on."""
        self._window_begin, self._window_step = time.monotonic(), self.progress.step

    def loss(self) -> float | None:
        """Return the loss of the current epoch so far; None at its start."""
        return self._epoch_loss() if self.progress.step_in_epoch else None

    def samples_per_s(self, least_s: float = 0.0) -> float | None:
        """Return the speed in this window; None before its first step, or in its first `least_s` seconds."""
        seconds, steps = time.monotonic() - self._window_begin, self.progress.step - self._window_step
        if seconds <= 0 or seconds < least_s or not steps:
            return None
        return steps * self.info.samples / self.info.steps_per_epoch / seconds

    def seconds_left(self) -> float | None:
        """Return the time left; None before the first step."""
        done = self.progress.step - self._first_step
        left = self.info.epochs * self.info.steps_per_epoch - self.progress.step
        return (time.monotonic() - self._begin) / done * left if done else None


def metric_items(values: Mapping[str, Any]) -> list[str]:
    """Return ``name value`` for each value that is a single number, but for the noise scale."""
    shown = {name: value for name, value in scalars(values).items() if name != NOISE_SCALE}  # it is said at the end
    return [f"{name} {four_digits(value)}" for name, value in shown.items()]

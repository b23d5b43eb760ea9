"""Where a run is kept, and what lies where in its folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

RUNS = Path("runs")
"""Where run folders go if nothing else is said."""


def folders_for(name: str) -> Iterator[Path]:
    """Yield ``runs/NAME``, ``runs/NAME-2``, ``runs/NAME-3`` and so on: one after the other, those of a job's runs."""
    yield RUNS / name
    for number in count(2):
        yield RUNS / f"{name}-{number}"


@dataclass(frozen=True)
class RunPaths:
    """The files of one run, which need not exist."""

    path: Path

    @property
    def job(self) -> Path:
        """The resolved job, once training has begun."""
        return self.path / "job.toml"

    @property
    def metrics(self) -> Path:
        """One line of JSON an epoch."""
        return self.path / "metrics.jsonl"

    @property
    def time(self) -> Path:
        """Lines of JSON: how long each rank was in each phase since the line before."""
        return self.path / "time.jsonl"

    @property
    def timeline(self) -> Path:
        """What each rank did when, if that was recorded."""
        return self.path / "timeline.json.gz"

    @property
    def progress(self) -> Path:
        """Where the training stands, every few seconds."""
        return self.path / "progress.json"

    @property
    def result(self) -> Path:
        """What the run came to; it exists if and only if the run is complete."""
        return self.path / "result.json"

    @property
    def model(self) -> Path:
        """The finished model: the weights that the result's SHA-256 names."""
        return self.path / "model.safetensors"

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints lie."""
        return self.path / "checkpoints"

    @property
    def last(self) -> Path:
        """The newest state of training, to go on from: another name of the newest of those by step."""
        return self.checkpoints / "last.safetensors"

    @property
    def best(self) -> Path:
        """The state after the best epoch."""
        return self.checkpoints / "best.safetensors"

    def at_step(self, step: int) -> Path:
        """The state after so many updates."""
        return self.checkpoints / f"step-{step:010d}.safetensors"

    @property
    def lease(self) -> Path:
        """Exists while a job trains into the folder: who that is."""
        return self.path / "lease"

    @property
    def origin(self) -> Path:
        """Where relative paths of the job start: the folder of the job file that the run was begun with."""
        return self.path / "origin.json"

    @property
    def attempts(self) -> Path:
        """One line of JSON for each start and end of a Slurm job, from the templates."""
        return self.path / "attempts.jsonl"

    @property
    def submissions(self) -> Path:
        """One line of JSON for each time that the run was submitted."""
        return self.path / "submitted.jsonl"

    @property
    def cancelled(self) -> Path:
        """Exists if a person wants the run to stop: the templates requeue no such run."""
        return self.path / "cancelled"

    @property
    def sweep(self) -> Path:
        """The points of a sweep, whose runs lie in folders by their index."""
        return self.path / "sweep.toml"

    @property
    def logs(self) -> Path:
        """Where each attempt's output lies."""
        return self.path / "logs"

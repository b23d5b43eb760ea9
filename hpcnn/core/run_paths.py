"""The paths of a run: its folder, and the files in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

RUNS = Path("runs")
"""Where run folders are created by default."""


def folders_for(name: str) -> Iterator[Path]:
    """Yield the folders of a job's runs in order: ``runs/NAME``, ``runs/NAME-2``, ``runs/NAME-3`` and so on."""
    yield RUNS / name
    for number in count(2):
        yield RUNS / f"{name}-{number}"


@dataclass(frozen=True)
class RunPaths:
    """The paths of one run's files, which need not exist."""

    path: Path

    @property
    def job(self) -> Path:
        """The resolved job, once training has begun."""
        return self.path / "job.toml"

    @property
    def metrics(self) -> Path:
        """One line of JSON per epoch."""
        return self.path / "metrics.jsonl"

    @property
    def time(self) -> Path:
        """Lines of JSON: how long each rank was in each phase since the previous line."""
        return self.path / "time.jsonl"

    @property
    def timeline(self) -> Path:
        """A trace of all ranks, if it was recorded."""
        return self.path / "timeline.json.gz"

    @property
    def progress(self) -> Path:
        """The progress of the training, rewritten every few seconds."""
        return self.path / "progress.json"

    @property
    def result(self) -> Path:
        """The result of the run; it exists if and only if the run is complete."""
        return self.path / "result.json"

    @property
    def model(self) -> Path:
        """The finished model: the weights that the result's SHA-256 names."""
        return self.path / "model.safetensors"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def last(self) -> Path:
        """The newest training state, to resume from: another name of the newest of those by step."""
        return self.checkpoints / "last.safetensors"

    @property
    def best(self) -> Path:
        """The state after the best epoch."""
        return self.checkpoints / "best.safetensors"

    def at_step(self, step: int) -> Path:
        """The state after `step` updates."""
        return self.checkpoints / f"step-{step:010d}.safetensors"

    @property
    def lease(self) -> Path:
        """Names the job that trains into the folder; exists only meanwhile."""
        return self.path / "lease"

    @property
    def origin(self) -> Path:
        """The folder that relative paths of the job start from: that of the job file which started the run."""
        return self.path / "origin.json"

    @property
    def attempts(self) -> Path:
        """One line of JSON for each start and end of a Slurm job, from the templates."""
        return self.path / "attempts.jsonl"

    @property
    def submissions(self) -> Path:
        """One line of JSON per submission of the run."""
        return self.path / "submitted.jsonl"

    @property
    def cancelled(self) -> Path:
        """Exists if the run was cancelled: the templates do not requeue such a run."""
        return self.path / "cancelled"

    @property
    def sweep(self) -> Path:
        """The points of a sweep; their runs are in folders named by index."""
        return self.path / "sweep.toml"

    @property
    def logs(self) -> Path:
        """The folder of each attempt's output."""
        return self.path / "logs"

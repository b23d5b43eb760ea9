"""The folder of one run: which one to use, and what lies where in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcnn.atomic import write_text
from hpcnn.errors import CheckpointError

RUNS = Path("runs")
"""Where run folders go if nothing else is said."""


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run."""

    path: Path

    @property
    def job(self) -> Path:
        """The resolved job."""
        return self.path / "job.toml"

    @property
    def metrics(self) -> Path:
        """One line of JSON an epoch."""
        return self.path / "metrics.jsonl"

    @property
    def result(self) -> Path:
        """What the run came to; it exists if and only if the run is complete."""
        return self.path / "result.json"

    @property
    def last(self) -> Path:
        """The newest state of training, to go on from."""
        return self.path / "checkpoints" / "last.safetensors"

    @property
    def best(self) -> Path:
        """The state after the best epoch."""
        return self.path / "checkpoints" / "best.safetensors"

    @property
    def model(self) -> Path:
        """The finished model: the weights that the result's SHA-256 names."""
        return self.path / "model.safetensors"

    def holds_run(self) -> bool:
        """Return whether some run has begun here."""
        return any(path.exists() for path in (self.job, self.metrics, self.result, self.last, self.model))

    def begin(self, job_toml: str) -> None:
        """Make the folder and write the resolved job."""
        try:
            self.last.parent.mkdir(parents=True, exist_ok=True)
            self.result.unlink(missing_ok=True)  # of a run that now trains for more epochs
            write_text(self.job, job_toml)
        except OSError as error:
            raise CheckpointError(
                f"can't write to the run folder {str(self.path)!r} ({error.strerror}). Choose another --out."
            ) from None

    def read_result(self) -> dict[str, Any] | None:
        """Return the result, or None if the run is not complete."""
        try:
            result = json.loads(self.result.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{str(self.result)!r} can't be read ({error}). Delete it to go on.") from None
        return dict(result)

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Mark the run as complete."""
        write_text(self.result, json.dumps(result, indent=2) + "\n")

    def keep_metrics(self, epochs: int) -> None:
        """Drop the lines of epochs after `epochs`: they are about to be done again."""
        lines = self.metrics.read_text(encoding="utf-8").splitlines() if self.metrics.exists() else []
        kept = [line for line in lines if _epoch(line) <= epochs]
        if kept != lines:
            write_text(self.metrics, "".join(line + "\n" for line in kept))

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Add one epoch."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _epoch(line: str) -> float:
    try:
        return int(json.loads(line)["epoch"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # a line cut off by a crash


def new_folder(name: str, out: Path | None) -> RunFolder:
    """Return a folder for a fresh run: `out`, or the first of ``runs/NAME``, ``runs/NAME-2``, ... that is free.

    Raises:
        CheckpointError: `out` holds a run already.
    """
    if out is not None:
        folder = RunFolder(out)
        if folder.holds_run():
            raise CheckpointError(
                f"the output folder {str(out)!r} holds a run already, and nothing is overwritten. "
                "Go on with it by --resume auto, or choose another --out."
            )
        return folder
    number = 1
    while (folder := RunFolder(_numbered(name, number))).path.exists():
        number += 1
    return folder


def newest_folder(name: str, out: Path | None) -> RunFolder | None:
    """Return the folder of the run to go on with: `out`, or the last of ``runs/NAME``, ...; None if there is none."""
    if out is not None:
        return RunFolder(out) if RunFolder(out).holds_run() else None
    newest, number = None, 1
    while (folder := RunFolder(_numbered(name, number))).path.exists():
        newest = folder if folder.holds_run() else newest
        number += 1
    return newest


def _numbered(name: str, number: int) -> Path:
    return RUNS / (name if number == 1 else f"{name}-{number}")

"""The files of a run that can be read without NumPy: progress, attempts under Slurm, logs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcnn.core.run_paths import RUNS, RunPaths, folders_for
from hpcnn.errors import CheckpointError


@dataclass(frozen=True)
class RunFiles(RunPaths):
    """The files of one run for monitoring. A file that is missing or just being written reads as empty."""

    def attempt_logs(self) -> dict[int, Path]:
        """Return the log of each attempt by its number, in order."""
        numbered = {path.stem.removeprefix("attempt-"): path for path in self.logs.glob("attempt-*.log")}
        return {int(number): numbered[number] for number in sorted(filter(str.isdecimal, numbered), key=int)}

    def holds_run(self) -> bool:
        """Return whether a run was started or submitted here."""
        return any(path.exists() for path in (self.job, self.result, self.submissions, self.attempts, self.progress))

    def elements(self) -> dict[int, RunFiles]:
        """Return the started runs of a sweep by index; none if this is not a sweep."""
        found = [path for path in _folders(self.path) if path.name.isdecimal() and RunFiles(path).holds_run()]
        return {int(path.name): RunFiles(path) for path in sorted(found, key=lambda path: int(path.name))}


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; empty if it can't be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects in a JSON Lines file; invalid lines are skipped."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    tables = []
    for line in lines:
        with suppress(ValueError, RecursionError):  # truncated by a crash
            tables.append(json.loads(line))
    return [table for table in tables if isinstance(table, dict)]


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    """Append an object with the current time to a JSON Lines file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"time": time.time(), **line}, ensure_ascii=False) + "\n")


def recent_runs(limit: int) -> list[RunFiles]:
    """Return the most recently changed runs in ``runs/``, newest first."""
    runs = [RunFiles(path) for path in _folders(RUNS) if holds_any(path)]
    return sorted(runs, key=_changed, reverse=True)[:limit]


def run_of_job(number: str) -> RunFiles | None:
    """Return the run in ``runs/`` that a job was submitted for, or None."""
    return next((run for run in recent_runs(1000) if number in job_numbers(run)), None)


def job_numbers(run: RunFiles) -> list[str]:
    """Return the ids of the Slurm jobs of a run, in order."""
    lines = [*read_lines(run.submissions), *read_lines(run.attempts)]
    lines.sort(key=lambda line: line["time"] if isinstance(line.get("time"), int | float) else 0)
    return list(dict.fromkeys(str(line["job_id"]).partition("_")[0] for line in lines if line.get("job_id")))


def holds_any(path: Path) -> bool:
    """Return whether the folder `path` contains a run or a sweep."""
    return RunFiles(path).holds_run() or RunFiles(path).sweep.exists()


def require_run(path: Path) -> RunFiles:
    """Return the run in the folder `path`. CheckpointError: there is none."""
    if holds_any(path):
        return RunFiles(path.absolute())
    others = [str(other.path) for other in recent_runs(5)]
    here = f" Runs here: {', '.join(others)}." if others else ""
    what = "no run is in the folder" if path.is_dir() else "there is no run folder"
    raise CheckpointError(f"{what} {str(path)!r}. Give the folder of a run, or the number of a Slurm job.{here}")


def free_folder(name: str) -> Path:
    """Return the first of ``runs/NAME``, ``runs/NAME-2``, ... that does not exist."""
    return next(path for path in folders_for(name) if not path.exists()).absolute()


def _folders(path: Path) -> list[Path]:
    try:
        return [entry for entry in path.iterdir() if entry.is_dir() and os.access(entry, os.X_OK)]
    except OSError:
        return []


def _changed(run: RunFiles) -> float:
    files = (run.job, run.result, run.metrics, run.progress, run.attempts, run.submissions, run.path)
    return max(map(changed_at, files))


def changed_at(path: Path) -> float:
    """Return when a file was last changed, in seconds of the epoch; 0 if there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0

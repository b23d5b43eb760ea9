"""Resubmits a run to resume it, and refuses changes of settings that define its result."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcnn.errors import CheckpointError
from hpcnn.slurm.run_files import RunFiles, read_lines
from hpcnn.slurm.sweep import Point, read_points

if TYPE_CHECKING:
    from hpcnn.job.load import LoadedJob
    from hpcnn.job.schema import Job


def submitted_before(folder: Path) -> tuple[Path, list[str]]:
    """Return job file and overrides of a run's last submission. CheckpointError: hpcnn submit did not submit it."""
    for line in reversed(read_lines(RunFiles(folder).submissions)):
        job, overrides = line.get("job"), line.get("set")
        if isinstance(job, str) and isinstance(overrides, list):
            return Path(job), [str(override) for override in overrides]
    raise CheckpointError(
        f"--resume: the run in {str(folder)!r} was not started by hpcnn submit, so its job file is not known. Give it: "
        f"hpcnn submit JOB --out {folder} --resume"
    )


def check_same_run(folder: Path, loaded: LoadedJob) -> None:
    """Raise CheckpointError if a job differs from that of the run to resume in a setting that defines the result."""
    from hpcnn.runs.state import check_same_job  # NumPy comes with it

    run = RunFiles(folder)
    if not (run.path / "checkpoints" / "last.safetensors").exists():  # it starts from the beginning
        return
    if before := _recorded_job(run):  # else the run itself compares with its checkpoints, as it does the data
        check_same_job(before, loaded.job, data_known=True, says_arithmetic=loaded.says_arithmetic)


def shards_in(folder: Path, job: Job) -> int | None:
    """Return the number of shards that `job` has in a run folder; None if its data decide that.

    A run keeps automatic shards as they were at its start.
    """
    from hpcnn.job.shards import shards_of

    train = _recorded_job(RunFiles(folder)).get("train") if job.train.shards == "auto" else None
    before = train.get("shards") if isinstance(train, dict) else None
    return before if isinstance(before, int) else shards_of(job)


def _recorded_job(run: RunFiles) -> dict[str, Any]:
    """Return the job that a run was started with; empty if it has not started, or can't be read."""
    try:
        return tomllib.loads(run.job.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}


def check_same_points(folder: Path, points: Sequence[Point]) -> None:
    """Raise CheckpointError if a sweep to resume has other points: their indices name the folders."""
    before = RunFiles(folder).sweep
    if before.exists() and read_points(before) != list(points):
        raise CheckpointError(
            f"the sweep in {str(folder)!r} has other points, listed in its sweep.toml. Omit --sweep to resume it, "
            "or choose another --out."
        )

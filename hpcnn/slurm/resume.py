"""Resubmits a run to resume it, and refuses changes of settings that define its result."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hpcnn.errors import CheckpointError
from hpcnn.slurm.run_files import RunFiles, read_lines
from hpcnn.slurm.sweep import Point, read_points

if TYPE_CHECKING:
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


def check_same_run(folder: Path, job: Job) -> None:
    """Raise CheckpointError if `job` differs from that of the run to resume in a setting that defines the result."""
    import msgspec

    from hpcnn.runs.state import check_same_job  # NumPy comes with it

    run = RunFiles(folder)
    if not (run.path / "checkpoints" / "last.safetensors").exists():  # it starts from the beginning
        return
    try:
        before = tomllib.loads(run.job.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # the run itself compares with its checkpoints
        return
    train = before.get("train", {})
    settled = {
        key: train[key]
        for key in ("shards", "compression_groups")
        if getattr(job.train, key) == "auto" and isinstance(train, dict) and key in train
    }
    now = msgspec.structs.replace(job, train=msgspec.structs.replace(job.train, **settled))
    check_same_job(before, now, data_known=True)  # the run itself compares them


def check_same_points(folder: Path, points: Sequence[Point]) -> None:
    """Raise CheckpointError if a sweep to resume has other points: their indices name the folders."""
    before = RunFiles(folder).sweep
    if before.exists() and read_points(before) != list(points):
        raise CheckpointError(
            f"the sweep in {str(folder)!r} has other points, listed in its sweep.toml. Omit --sweep to resume it, "
            "or choose another --out."
        )

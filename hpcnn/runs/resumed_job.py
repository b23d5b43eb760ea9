"""The job of a run that is resumed without a job file: a run keeps its own."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hpcnn.core.run_paths import RunPaths
from hpcnn.errors import CheckpointError
from hpcnn.job.dump import resolved_toml
from hpcnn.job.load import LoadedJob, check_table, load_job
from hpcnn.job.origin import run_of
from hpcnn.job.overrides import apply_overrides
from hpcnn.runs.state import facts_of, job_of
from hpcnn.storage.checkpoint import read_facts


def load_start_job(job: Path | None, overrides: Sequence[str], out: Path | None, resume: str) -> LoadedJob:
    """Read the given job file, or else the job of the run to resume, or else the digits job."""
    path = job or job_of_run(out, resume)
    if path is None and resume not in ("auto", "never") and Path(resume).is_file():
        return _load_from_checkpoint(Path(resume), overrides)
    return load_job(path, overrides)


def job_of_run(out: Path | None, resume: str) -> Path | None:
    """Return the job file of the run that ``--out`` and ``--resume`` name; None if there is none.

    Raises:
        CheckpointError: the run has checkpoints, but lost its job file.
    """
    if resume == "never":
        return None
    run = out if resume == "auto" else run_of(Path(resume))
    if run is None:
        return None
    paths = RunPaths(run)
    if paths.job.is_file():
        return paths.job
    checkpoints = sorted(paths.checkpoints.glob("*.safetensors"))
    if checkpoints and not Path(resume).is_file():
        raise CheckpointError(
            f"the run {str(run)!r} has checkpoints, but no {paths.job.name}. Give the job that it was started with, "
            f"or resume a checkpoint, which has the job in it: --resume {checkpoints[-1]}"
        )
    return None


def _load_from_checkpoint(path: Path, overrides: Sequence[str]) -> LoadedJob:
    facts = facts_of(read_facts(path))
    table = tomllib.loads(resolved_toml(job_of(facts.job)))
    return replace(check_table(table, path, apply_overrides(table, overrides)), base=Path(facts.base))

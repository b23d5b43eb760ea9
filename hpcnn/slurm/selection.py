"""The run or job that an argument selects: RUN, a folder, or JOBID, a Slurm job id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcnn.errors import CheckpointError
from hpcnn.slurm.client import NoSlurmError
from hpcnn.slurm.queue import QueuedJob, is_job_id, queued
from hpcnn.slurm.run_files import RunFiles, job_numbers, require_run, run_of_job


@dataclass(frozen=True)
class Selection:
    """A run, or a job without a known run, or both."""

    run: RunFiles | None
    jobs: Sequence[QueuedJob]
    """Its jobs that Slurm knows."""

    @property
    def active(self) -> list[QueuedJob]:
        """The jobs that have not ended."""
        return [job for job in self.jobs if job.active]


def select(name: str) -> Selection:
    """Return the run or job named ``runs/digits_mlp``, ``17`` or ``17_3``.

    Raises:
        CheckpointError: there is no such run or job.
        SlurmError: Slurm does not answer.
    """
    if is_job_id(name) and not Path(name).exists():
        return _by_number(name)
    run = require_run(Path(name))
    jobs = queue_or_nothing()
    return Selection(run, [job for job in jobs if writes_to(job, run)])


def select_run(name: str) -> Selection:
    """Return the run or job as `select` does; for the id of a job that has ended, its run with all of its jobs."""
    selection = select(name)
    return selection if selection.run is None or selection.active else select(str(selection.run.path))


def queue_or_nothing() -> list[QueuedJob]:
    """Return the user's jobs in the queue; none on a machine without Slurm."""
    try:
        return queued()
    except NoSlurmError:
        return []


def writes_to(job: QueuedJob, run: RunFiles) -> bool:
    """Return whether a job writes to the folder of a run or of one of its elements."""
    if not job.folder:
        return job.number in job_numbers(run)
    folder = Path(job.folder)
    element = folder.parent if job.element and folder.name == job.element else folder
    return run.path in (folder, element) or (bool(job.element) and run.path == folder / job.element)


def _by_number(name: str) -> Selection:
    jobs = queued(name)
    number, _, element = name.partition("_")
    folder = next((job.folder for job in jobs if job.folder), "")
    run = RunFiles(Path(folder)) if folder else run_of_job(number)
    if run is None and not jobs:
        raise CheckpointError(
            f"Slurm does not know job {name} (any more), and no run in runs/ here belongs to it. Give the run folder."
        )
    if run is not None and element and (run.path / element).is_dir():
        run = RunFiles(run.path / element)
    return Selection(run, jobs)

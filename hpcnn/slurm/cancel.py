"""Cancels runs, after they have saved or at once."""

from __future__ import annotations

from collections.abc import Sequence

from hpcnn.errors import CheckpointError
from hpcnn.slurm.client import run_slurm
from hpcnn.slurm.queue import WAITING, QueuedJob, job_ids
from hpcnn.slurm.run_files import RunFiles
from hpcnn.slurm.selection import Selection


def cancel(selection: Selection, name: str, *, now: bool) -> str:
    """Cancel the jobs of a run and report what was done.

    Waiting jobs leave the queue; running jobs save and are not requeued. `now`: they end without saving.

    Raises:
        CheckpointError: it has no jobs in the queue.
        SlurmError: Slurm refuses.
    """
    jobs = selection.active
    if not jobs:
        raise CheckpointError(f"{name} has no job in the queue: there is nothing to stop. See hpcnn status {name}.")
    if selection.run is not None:
        for run in (selection.run, *selection.run.elements().values()):
            _mark(run)
    waiting = [job for job in jobs if now or job.state in WAITING]
    running = [job for job in jobs if job not in waiting]
    said = []
    if waiting:
        run_slurm("scancel", *_ids(waiting))
        said.append(f"job {job_ids(waiting)} is cancelled")
    if running:
        run_slurm("scancel", "--batch", "--signal=USR1", *_ids(running))
        said.append(f"job {job_ids(running)} was asked to save and stop; to end it at once: hpcnn cancel {name} --now")
    return "; ".join(said)


def _mark(run: RunFiles) -> None:
    """Mark the run as cancelled: the template would otherwise treat the signal as the time limit, and requeue."""
    try:
        run.cancelled.touch()
    except OSError as error:
        raise CheckpointError(
            f"can't mark the run in {str(run.path)!r} as cancelled ({error.strerror}): it would be requeued. "
            "scancel with the job id ends it without saving."
        ) from None


def _ids(jobs: Sequence[QueuedJob]) -> list[str]:
    """Return job ids for scancel: ``17_[3-5%2]`` without the limit of simultaneous elements."""
    return [job.job_id.partition("%")[0] + ("]" if "%" in job.job_id else "") for job in jobs]

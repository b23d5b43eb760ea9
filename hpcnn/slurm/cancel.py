"""Stops runs: so that they save first, or at once."""

from __future__ import annotations

from collections.abc import Sequence

from hpcnn.errors import CheckpointError
from hpcnn.slurm.client import run_slurm
from hpcnn.slurm.queue import WAITING, QueuedJob, job_ids
from hpcnn.slurm.run_files import RunFiles
from hpcnn.slurm.selection import Selection


def cancel(selection: Selection, name: str, *, now: bool) -> str:
    """Stop the jobs of a run, and return what was done. Jobs that wait leave the queue; those that run are asked to.

    They save, and do not come back. `now`: they end without saving.

    Raises:
        CheckpointError: it has no jobs in the queue.
        SlurmError: Slurm refuses.
    """
    jobs = selection.active
    if not jobs:
        raise CheckpointError(
            f"{name} has no job in the queue: nothing is to be stopped. hpcnn status {name} says why."
        )
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
        said.append(f"job {job_ids(running)} was asked to save and stop; hpcnn cancel {name} --now would not wait")
    return "; ".join(said)


def _mark(run: RunFiles) -> None:
    """Leave word for the template, which would else take the signal for the end of its time, and come back."""
    try:
        run.cancelled.touch()
    except OSError as error:
        raise CheckpointError(
            f"can't leave word in {str(run.path)!r} that the run is to stop ({error.strerror}): it would come back. "
            "scancel and the number of the job end it without saving."
        ) from None


def _ids(jobs: Sequence[QueuedJob]) -> list[str]:
    """Return what scancel takes: ``17_[3-5%2]`` without the number of those at once."""
    return [job.job_id.partition("%")[0] + ("]" if "%" in job.job_id else "") for job in jobs]

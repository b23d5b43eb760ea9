"""The state of runs, from the queue and from their folders."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcnn.errors import EXIT_BAD_INPUT, EXIT_DONE, EXIT_FAILURE, EXIT_STALLED, EXIT_STOPPED
from hpcnn.slurm.messages import reason_in_words
from hpcnn.slurm.queue import ACTIVE, QueuedJob, recorded_state
from hpcnn.slurm.run_files import RunFiles, job_numbers, read_json, read_lines, recent_runs
from hpcnn.slurm.selection import Selection, queue_or_nothing, writes_to

FRESH_S = 60.0
"""A training without Slurm counts as running if it reported progress within this time."""
UNFINISHED = ("pending", "requeued", "starting", "running", "completing", "suspended")
"""States of runs that have not ended."""


@dataclass(frozen=True)
class Status:
    """One run, or one job without a known run folder. Unknown values are None or empty."""

    run: str
    """Folder."""
    state: str
    """``pending``, ``requeued``, ``starting``, ``running``, ``completing``, ``suspended``; ``done``, ``stopped``,
    ``cancelled``, ``failed``, ``unknown``; ``ended`` for runs of a sweep that ended in several ways."""
    why: str = ""
    """Why it waits or has ended."""
    job_id: str = ""
    name: str = ""
    nodes: int | None = None
    hosts: str = ""
    ranks: int | None = None
    epoch: int | None = None
    epochs: int | None = None
    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    samples_per_s: float | None = None
    left_s: float | None = None
    """Remaining time of the training."""
    wall_left_s: float | None = None
    """Remaining time until Slurm ends the job, which is then requeued."""
    restarts: int = 0
    starts_at: str = ""
    """Slurm's estimate of the start of a waiting job."""

    @property
    def unfinished(self) -> bool:
        """Whether it has not ended."""
        return self.state in UNFINISHED

    @property
    def exit_code(self) -> int:
        """Exit code of a command that waited for the run."""
        return {"done": EXIT_DONE, "stopped": EXIT_STOPPED, "cancelled": EXIT_STOPPED}.get(self.state, EXIT_FAILURE)


def statuses(selection: Selection) -> list[Status]:
    """Return the status of a run, or of jobs without one. A sweep has one status per element that has started."""
    run, jobs = selection.run, _newest_first(selection.jobs)
    if run is None:
        return [job_status(job) for job in jobs]
    if not run.sweep.exists():
        return [_status(run, next(iter(jobs), None))]
    by_element = {int(job.element): job for job in jobs if job.element}
    found = {index: _status(element, by_element.pop(index, None)) for index, element in run.elements().items()}
    found |= {index: job_status(job) for index, job in by_element.items()}
    return [found[index] for index in sorted(found)] + [job_status(job) for job in jobs if not job.element]


def all_statuses(most: int = 10) -> list[Status]:
    """Return the status of all of the user's runs in the queue, and of the `most` newest others in ``runs/``."""
    jobs = [job for job in queue_or_nothing() if job.folder]
    folders = dict.fromkeys(_run_folder(job) for job in reversed(jobs))
    recent = [run.path.absolute() for run in recent_runs(most) if run.path.absolute() not in folders]
    runs = [RunFiles(folder) for folder in [*folders, *recent]]
    return [one for run in runs for one in _shortened(run, [job for job in jobs if writes_to(job, run)])]


def _shortened(run: RunFiles, jobs: Sequence[QueuedJob]) -> list[Status]:
    """Return the status of a run; for a sweep, of each unfinished element and of all others together."""
    found = statuses(Selection(run, jobs))
    if not run.sweep.exists():
        return found
    ended = [one.state for one in found if not one.unfinished]
    counts = ", ".join(f"{ended.count(state)} {state}" for state in dict.fromkeys(ended))
    states = set(ended) or {"unknown"}
    rest = Status(str(run.path), states.pop() if len(states) == 1 else "ended", f"a sweep: {counts or 'not begun'}")
    return [*(one for one in found if one.unfinished), *([rest] if ended or not found else [])]


def _run_folder(job: QueuedJob) -> Path:
    folder = Path(job.folder)
    return folder.parent if job.element and RunFiles(folder.parent).sweep.exists() else folder


def job_status(job: QueuedJob) -> Status:
    """Return the status of a job without a run folder."""
    state, why = _state_in_queue(job) if job.active else (_ended_as(job.state), "")
    return Status(
        run=job.folder,
        state=state,
        why=why,
        job_id=job.job_id,
        name=job.name,
        nodes=job.nodes or None,
        hosts=job.hosts,
        wall_left_s=job.left_s if job.state == "RUNNING" else None,
    )


def _newest_first(jobs: Iterable[QueuedJob]) -> list[QueuedJob]:
    """Sort active jobs before ended ones, running before waiting ones, and newest first."""
    return sorted(jobs, key=lambda job: (job.active, job.state in ACTIVE, int(job.number)), reverse=True)


def _status(run: RunFiles, job: QueuedJob | None) -> Status:
    progress, attempts = read_json(run.progress), read_lines(run.attempts)
    numbers = job_numbers(run)
    of_this_job = [line for line in attempts if str(line.get("job_id", "")) == (numbers[-1] if numbers else "")]
    restarts = max((_whole(line.get("attempt")) or 0 for line in of_this_job), default=0)
    if job is not None and job.active:
        state, why = _state_in_queue(job, restarted=bool(of_this_job), begun=_begun(progress, of_this_job))
    else:
        state, why = _state_in_folder(run, progress, of_this_job, numbers)
    running = state == "running"
    result = read_json(run.result) if state == "done" else {}
    last = of_this_job[-1] if of_this_job else {}
    return Status(
        run=str(run.path),
        state=state,
        why=why,
        job_id=job.job_id if job else (numbers[-1] if numbers else ""),
        name=job.name if job else "",
        nodes=(job.nodes if job else 0) or _whole(last.get("nodes")) or _whole(progress.get("hosts")),
        hosts=job.hosts if job else "",
        ranks=_whole(progress.get("ranks")) or _whole(last.get("tasks")),
        epoch=_whole(result.get("epochs", progress.get("epoch"))),
        epochs=_whole(progress.get("epochs")),
        step=_whole(result.get("steps", progress.get("step"))),
        steps=_whole(progress.get("steps")),
        loss=_number(progress.get("loss")),
        samples_per_s=_number(progress.get("samples_per_s")),
        left_s=_number(progress.get("left_s")) if running else None,
        wall_left_s=job.left_s if job and running else None,
        restarts=restarts,
        starts_at=job.start if job and state in ("pending", "requeued") else "",
    )


def _begun(progress: dict[str, Any], attempts: Sequence[dict[str, Any]]) -> bool:
    started = max((line.get("time") or 0 for line in attempts if line.get("event") == "start"), default=0)
    return bool(progress) and (_number(progress.get("time")) or 0) >= started > 0


def _state_in_queue(job: QueuedJob, *, restarted: bool = False, begun: bool = True) -> tuple[str, str]:
    if job.state == "RUNNING":
        return ("running", "") if begun else ("starting", "")
    if job.state in ACTIVE:
        words = {"COMPLETING": "completing", "CONFIGURING": "starting", "SUSPENDED": "suspended"}
        return words.get(job.state, "running"), ""
    return "requeued" if restarted else "pending", reason_in_words(job.reason)


def _state_in_folder(
    run: RunFiles, progress: dict[str, Any], attempts: Sequence[dict[str, Any]], numbers: Sequence[str]
) -> tuple[str, str]:
    if run.result.exists():
        return "done", ""
    if run.cancelled.exists():
        return "cancelled", "stopped on request; resume it: hpcnn submit --resume"
    if not numbers:
        if time.time() - (_number(progress.get("time")) or 0) < FRESH_S:
            return "running", "not under Slurm"
        return "stopped", "not under Slurm"
    if attempts and attempts[-1].get("event") == "end":
        return _state_by_exit_code(attempts[-1].get("exit_code"))
    if recorded := recorded_state(numbers[-1]):
        return _ended_as(recorded), f"Slurm: {recorded}"
    if attempts:
        return "failed", "ended without a message: it was killed, or its node was lost"
    return "unknown", f"job {numbers[-1]} is not in the queue, and there is no record of it"


def _state_by_exit_code(code: object) -> tuple[str, str]:
    return {
        EXIT_STOPPED: ("stopped", "saved; resume it: hpcnn submit --resume"),
        EXIT_BAD_INPUT: ("failed", "bad input; see hpcnn logs"),
        EXIT_STALLED: ("failed", "a rank made no progress; see hpcnn logs"),
    }.get(code if isinstance(code, int) else -1, ("failed", f"exit code {code}; see hpcnn logs"))


def _ended_as(state: str) -> str:
    return {"COMPLETED": "done", "CANCELLED": "cancelled", "PREEMPTED": "stopped"}.get(state, "failed")


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:  # an integer that no float holds
        return None

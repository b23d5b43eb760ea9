"""Queries Slurm for jobs in the queue (squeue) and, if it keeps records, for past jobs (sacct)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hpcnn.slurm.client import run_slurm
from hpcnn.slurm.messages import SlurmError

COMMENT = "hpcnn:"
"""Prefix of the comment of a job, before the path of its run folder."""
ACTIVE = ("COMPLETING", "CONFIGURING", "RESIZING", "RUNNING", "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED")
WAITING = ("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT")
"""States of jobs that have not ended: those that occupy nodes, and those that wait."""

# Control characters as separators: names and folders may contain any printable character.
_FIELD, _RECORD = "\x1f", "\x1e"
_QUEUE = {
    "job_id": "%i", "state": "%T", "reason": "%r", "nodes": "%D", "hosts": "%N", "left": "%L", "start": "%S",
    "comment": "%k", "name": "%j",
}  # fmt: skip
_NOTHING = ("(null)", "N/A", "n/a")
_JOB_ID = re.compile(r"[1-9]\d*(_\d+)?")


@dataclass(frozen=True)
class QueuedJob:
    """One job, one element of a job array, or the elements of an array that have not started."""

    job_id: str
    """As ``12``, ``12_3`` or ``12_[4-9%2]``."""
    state: str
    """As in Slurm: ``PENDING``."""
    reason: str = ""
    nodes: int = 0
    hosts: str = ""
    """As ``node[1-2]``."""
    left_s: float | None = None
    """Remaining wall time; None without a limit."""
    start: str = ""
    """Start time, or Slurm's estimate of it."""
    comment: str = ""
    name: str = ""

    @property
    def active(self) -> bool:
        """Whether it occupies nodes or waits for them."""
        return self.state in ACTIVE or self.state in WAITING

    @property
    def number(self) -> str:
        """The job id without the array index."""
        return self.job_id.partition("_")[0]

    @property
    def element(self) -> str:
        """The array index; empty for a single job, and for elements that have not started."""
        element = self.job_id.partition("_")[2]
        return element if element.isdigit() else ""

    @property
    def folder(self) -> str:
        """The run folder in its comment; empty if there is none."""
        return self.comment.removeprefix(COMMENT) if self.comment.startswith(COMMENT) else ""


def is_job_id(text: str) -> bool:
    """Return whether `text` is a job id: ``12`` or ``12_3``."""
    return _JOB_ID.fullmatch(text) is not None


def queued(job_id: str = "") -> list[QueuedJob]:
    """Return the user's jobs that have not ended, or one job, even if it ended a few minutes ago.

    Raises:
        SlurmError: Slurm is not available or does not answer.
    """
    which = [f"--jobs={job_id}", "--states=all"] if job_id else ["--me"]
    try:
        text = run_slurm("squeue", "--noheader", *which, f"--format={_FIELD.join(_QUEUE.values())}{_RECORD}")
    except SlurmError as error:
        if job_id and "invalid job id" in str(error).lower():
            return []
        raise
    return parse_queue(text)


def parse_queue(text: str) -> list[QueuedJob]:
    """Return the jobs in the output of squeue."""
    jobs = []
    for record in text.split(_RECORD):
        values = record.removeprefix("\n").split(_FIELD)
        if len(values) != len(_QUEUE):
            continue
        known = ("" if value in _NOTHING else value for value in map(str.strip, values))
        fields = dict(zip(_QUEUE, known, strict=True))
        nodes, left = fields.pop("nodes"), fields.pop("left")
        jobs.append(QueuedJob(**fields, nodes=int(nodes) if nodes.isdecimal() else 0, left_s=seconds(left)))
    return jobs


def recorded_state(job_id: str) -> str:
    """Return the final state of a job, such as ``TIMEOUT``; empty if Slurm no longer knows it."""
    try:
        if ended := [job.state for job in queued(job_id) if not job.active]:
            return ended[-1]
        said = run_slurm("sacct", "--noheader", "--allocations", "--parsable2", "--format=State", f"--jobs={job_id}")
    except SlurmError:  # no records, or no answer
        return ""
    words = said.split()
    return words[0].rstrip("+") if words else ""


def seconds(left: str) -> float | None:
    """Parse a time of Slurm in seconds; None for ``UNLIMITED`` and anything that is not a time.

    >>> seconds("1-02:03:04"), seconds("4:59"), seconds("UNLIMITED")
    (93784.0, 299.0, None)
    """
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", left)
    if found is None:
        return None
    days, hours, minutes, rest = (int(part or 0) for part in found.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + rest)


def elements_of(job_id: str) -> list[int]:
    """Return the array indices in a job id; none for a single job.

    >>> elements_of("12_[0-2,7,10-14:2%3]"), elements_of("12_3"), elements_of("12")
    ([0, 1, 2, 7, 10, 12, 14], [3], [])
    """
    indices: list[int] = []
    for first, last, step in re.findall(r"(\d+)(?:-(\d+))?(?::(\d+))?", job_id.partition("_")[2].partition("%")[0]):
        indices += range(int(first), int(last or first) + 1, int(step or 1))
    return indices


def job_ids(jobs: Sequence[QueuedJob]) -> str:
    """Return the ids of jobs for a message."""
    return ", ".join(job.job_id for job in jobs)

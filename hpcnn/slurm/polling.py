"""Waits for jobs by polling the queue: ``sbatch --wait`` notices an end half a minute late."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from hpcnn.errors import EXIT_FAILURE
from hpcnn.slurm.client import NoSlurmError
from hpcnn.slurm.messages import SlurmError
from hpcnn.slurm.queue import queued
from hpcnn.slurm.run_files import RunFiles
from hpcnn.slurm.selection import Selection
from hpcnn.slurm.status import Status, statuses
from hpcnn.system.output import write_line

_FIRST_S, _GROWTH = 1.0, 1.1
"""First interval between two queries of the queue, which all users share, and the growth of the next ones."""
_TRIES = 10
"""Attempts in a row that may fail: a restarting controller is unavailable for a minute or two."""
_RETRY_S = 10.0

T = TypeVar("T")


def poll_intervals(longest_s: float = 20.0) -> Iterator[float]:
    """Yield growing intervals between two queries, in seconds, without end."""
    return (min(longest_s, _FIRST_S * _GROWTH**look) for look in itertools.count())


def retry(look: Callable[[], T]) -> T:
    """Return the result of `look`, retrying while Slurm does not answer. SlurmError: all attempts failed."""
    for _ in range(_TRIES - 1):
        try:
            return look()
        except NoSlurmError:
            raise
        except SlurmError:
            time.sleep(_RETRY_S)
    return look()


def wait_for(number: str, folder: Path) -> int:
    """Wait until a job has left the queue, print its progress, and return an exit code: 0 if all its runs are done."""
    said = ""
    for pause_s in poll_intervals():
        jobs = [job for job in retry(lambda: queued(number)) if job.active]
        found = statuses(Selection(RunFiles(folder), jobs))
        words = "; ".join(dict.fromkeys(map(_words, found)))
        if words != said:
            write_line(words)
            said = words
        if not jobs:
            return max((status.exit_code for status in found), default=EXIT_FAILURE)
        time.sleep(pause_s)
    raise AssertionError("the intervals never end")


def _words(status: Status) -> str:
    return status.state + (f": {status.why}" if status.why else "")

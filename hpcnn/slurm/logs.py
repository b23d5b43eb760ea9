"""The logs of a run, one per attempt."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from hpcnn.errors import CheckpointError
from hpcnn.slurm.run_files import RunFiles, changed_at

_POLL_S = 0.5
_END_EVERY_S = 5.0
"""Interval at which Slurm is asked whether the run continues, while its log is followed."""


def log_of(run: RunFiles, attempt: int | None) -> Path:
    """Return the log of an attempt; for None the output of the last job if it is kept, else of its last attempt.

    Raises:
        CheckpointError: there is no such log.
    """
    logs = run.attempt_logs()
    if attempt in logs:
        return logs[attempt]
    if attempt is not None:
        have = f"Attempts with a log: {', '.join(map(str, logs))}." if logs else "It has none yet."
        raise CheckpointError(f"--attempt {attempt}: the run {str(run.path)!r} has no such log. {have}")
    found = sorted(run.logs.glob("*.out")) or list(logs.values())
    if not found:
        elements = f" It is a sweep: name one of its runs, as {run.path}/0." if run.sweep.exists() else ""
        raise CheckpointError(f"the run {str(run.path)!r} has no log yet.{elements}")
    return max(found, key=changed_at)


def last_lines(path: Path, most: int) -> tuple[str, int]:
    """Return the last `most` lines of a file, all if `most` is 0, and the end position."""
    with path.open("rb") as file:
        lines = b"".join(file if most == 0 else deque(file, maxlen=most))
        return lines.decode(errors="replace"), file.tell()


def follow(run: RunFiles, path: Path, position: int, unfinished: Callable[[], bool]) -> Iterator[str]:
    """Yield text that is appended to a log after `position`, and to logs of later attempts, until the run ends."""
    asked, ended = time.monotonic(), False
    while True:
        with path.open("rb") as file:
            file.seek(position)
            added = file.read()
        position += len(added)
        if added:
            yield added.decode(errors="replace")
        newest = log_of(run, None)
        if newest != path:
            yield f"==> {newest.name} <==\n"
            path, position = newest, 0
        elif ended:
            return
        elif time.monotonic() - asked > _END_EVERY_S:
            asked, ended = time.monotonic(), not unfinished()
        else:
            time.sleep(_POLL_S)

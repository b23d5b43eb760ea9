"""The owner of a lease, as recorded in its file."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpcnn.core.run_paths import RunPaths
from hpcnn.system.processes import Process

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_TOKEN = re.compile("[0-9a-f]{16}")
_SLURM = {"job": "SLURM_JOB_ID", "attempt": "SLURM_RESTART_COUNT"}

held_here: set[str] = set()
"""The tokens of the leases that this process holds."""


@dataclass(frozen=True)
class Owner:
    """The job that holds a lease."""

    token: str
    number: bytes
    """Changes with each renewal."""
    processes: tuple[Process, ...]
    """The processes that may renew it. Empty, as all fields below, if a crash cut off the file."""
    since: float = 0.0
    job: str = ""
    """The id of the Slurm job."""
    attempt: str = ""

    def __str__(self) -> str:
        if not self.processes:
            return "a job that is not known"
        first = self.processes[0]
        slurm = f" of Slurm job {self.job}" if self.job else ""
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"process {first.number} on {first.host}{slurm}, since {began}"

    @property
    def is_dead(self) -> bool:
        """Whether all its processes have certainly ended."""
        return bool(self.processes) and all(process.is_dead() for process in self.processes)

    @property
    def is_ours(self) -> bool:
        """Whether a lost rank of this process's own job acquired it, before this process learned of the lease."""
        return Process.own() in self.processes and self.token not in held_here

    def stop_by(self) -> str:
        """Return the command that stops the owner."""
        if self.job:
            return f"hpcnn cancel {self.job}"
        return f"kill {self.processes[0].number} on {self.processes[0].host}" if self.processes else "kill"


def clock() -> float:
    """Return seconds by a clock that also runs while the machine is suspended."""
    return time.clock_gettime(_CLOCK)


def read_owner(folder: Path) -> Owner | None:
    """Return the owner of a folder's lease; None if nobody holds it. OSError: it can't be read."""
    lease = RunPaths(folder).lease
    try:
        token = next((path.name for path in lease.iterdir() if _TOKEN.fullmatch(path.name)), None)
        if token is None:
            return None
        number, _, rest = (
            (lease / token).read_bytes().partition(b"\n")
        )  # opening the file bypasses the cache of a network disk
    except FileNotFoundError:
        return None
    try:
        facts = json.loads(rest)
        int(number)
        return Owner(token, number, tuple(Process(**each) for each in facts.pop("processes")), **facts)
    except (ValueError, TypeError, KeyError, AttributeError):
        return Owner(token, number, ())


def stamp() -> bytes:
    """Return the first line of a lease that is renewed now: a growing number of fixed width."""
    return b"%020d\n" % int(1000 * clock())


def slurm_facts() -> dict[str, str]:
    """Return the id of this Slurm job and the number of its attempt; empty without Slurm."""
    return {key: os.environ.get(name, "") for key, name in _SLURM.items()}


def content_of(processes: Sequence[Process]) -> bytes:
    """Return the content of the file of a lease that these processes may renew."""
    facts: dict[str, Any] = {"processes": [asdict(process) for process in processes], "since": time.time()}
    return stamp() + json.dumps(facts | slurm_facts()).encode()

"""Leases of other jobs, processes that hold one, and several calls at once."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hpcnn.core.run_paths import RunPaths
from hpcnn.errors import CheckpointError
from hpcnn.runs.lease.keeper import LeaseKeeper, LeaseLostError
from hpcnn.runs.lease.lease import acquire
from hpcnn.runs.lease.owner import content_of
from hpcnn.system.processes import Process

OWN = Process.own()
ELSEWHERE = replace(OWN, host="elsewhere", boot="another")
"""A process that nobody here can see."""
TOKEN = "0123456789abcdef"
LOST = 8


def leave(folder: Path, *processes: Process, content: bytes | None = None) -> bytes:
    """Write the lease of a job that is not one of this process."""
    lease = RunPaths(folder).lease
    lease.mkdir()
    content = content_of(processes) if content is None else content
    (lease / TOKEN).write_bytes(content)
    return content


def everything_in(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def at_once(count: int, action: Callable[[], object]) -> list[object]:
    """Return what each of so many threads comes to, or the error that it is told."""
    barrier, results = threading.Barrier(count), []

    def body() -> None:
        barrier.wait()
        try:
            results.append(action())
        except CheckpointError as error:
            results.append(error)

    threads = [threading.Thread(target=body) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def in_time(action: Callable[[], object]) -> object:
    """Return what a call comes to that may never end, or the error that it raises."""
    results: list[object] = []

    def body() -> None:
        try:
            results.append(action())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join(10)
    assert results, "it did not end in 10 s"
    return results[0]


def forked(action: Callable[[], object]) -> int:
    """Run it in another process, which ends with `LOST` if it loses its lease; return the process."""
    child = os.fork()
    if not child:
        try:
            action()
        except LeaseLostError:
            os._exit(LOST)
        finally:
            os._exit(1)
    return child


def hold(folder: Path) -> None:
    LeaseKeeper(acquire(folder))
    (folder / "held").touch()
    time.sleep(600)

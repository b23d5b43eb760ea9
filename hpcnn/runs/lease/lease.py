"""The lease of a run folder: one job at a time trains into it, on all hosts that share it.

A lease is the folder ``lease`` in the run folder. It holds one file, whose name is the owner's token. A job acquires
the lease by renaming a prepared folder to ``lease``, which succeeds only if there is none or an empty one. It takes a
lease away by renaming the file out of the folder, which succeeds for one job only. Both are atomic, also on NFS, and
need no file locks.

The owner renews the lease by writing a new number into the file every few seconds, in place; it never creates the file
again. A job that finds a lease takes it over at once if the owner is certainly dead. Otherwise it watches by its own
clock whether the number changes: clocks of different hosts are never compared.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hpcnn.core.run_paths import RunPaths
from hpcnn.errors import CheckpointError
from hpcnn.runs.lease.owner import Owner, content_of, held_here, read_owner, slurm_facts, stamp
from hpcnn.system.processes import Process

RENEW_S = 3.0
"""Seconds between two renewals."""
LEASE_S = 30.0
"""A lease expires when it was watched for this long and not renewed."""
GRACE_S = 2.0
"""How long to wait for an owner on this machine that is about to die."""
ENDING_S = 900.0
"""How long to wait for an earlier attempt of the same Slurm job: longer than its watchdog takes to end it."""
_POLL_S = 0.1
_ATTEMPTS = 100
"""How many polls to wait for anything else in the place of the lease to disappear."""


class RunBusyError(CheckpointError):
    """Another job trains into the run folder."""


@dataclass(frozen=True)
class Lease:
    """An acquired lease: all that another rank needs in order to renew it."""

    folder: Path
    token: str
    inode: int
    """Distinguishes the folder from another one in its place."""
    made: tuple[Path, ...] = ()
    """Folders that were created for the run, the outermost first."""

    def release(self) -> None:
        """Release the lease if it is still held, and delete the folders that were created for it and are empty."""
        with suppress(OSError):
            _take_away(self.folder, self.token)
        held_here.discard(self.token)  # last: a lease of this process that is not held here counts as inherited
        with suppress(OSError):
            RunPaths(self.folder).lease.rmdir()
        for path in reversed(self.made):
            with suppress(OSError):
                path.rmdir()


def acquire(
    folder: Path,
    processes: Sequence[Process] = (),
    *,
    made: Sequence[Path] = (),
    beat: Callable[[], object] = lambda: None,
    say: Callable[[str], object] = print,
) -> Lease:
    """Acquire the lease of an existing folder for `processes`, this one first, or for this one alone.

    `made` are the folders that were created for the run; `beat` is called repeatedly while another owner is watched.

    Raises:
        RunBusyError: a live owner holds the lease.
        CheckpointError: the place of the lease is taken by something else.
        OSError: the folder can't be written to.
    """
    inode, token = folder.stat().st_ino, os.urandom(8).hex()
    held_here.add(token)
    try:
        held = _take(folder, token, content_of(processes or [Process.own()]), beat, say)
    except BaseException:
        held_here.discard(token)
        raise
    held_here.add(held)
    for path in folder.glob(".lease-*"):  # of jobs that were killed, or were too late
        with suppress(OSError):
            _remove(path)
    return Lease(folder, held, inode, tuple(made))


def _take(folder: Path, token: str, content: bytes, beat: Callable[[], object], say: Callable[[str], object]) -> str:
    """Acquire the lease as `token`; return the token that holds it, which a lost rank of this job may have written."""
    begin, settle_s, vacant = time.monotonic(), 0.0, 0
    while not place(folder, token, content):
        beat()
        owner = read_owner(folder)
        if owner is None:  # released a moment ago, or about to be
            vacant += 1
            _clear(folder, vacant)
            time.sleep(_POLL_S)
            continue
        vacant = 0
        if owner.is_ours and (RunPaths(folder).lease / owner.token).exists():  # not released since it was read
            return owner.token
        dead = owner.is_dead
        if dead or not _is_alive(folder, owner, beat, say):
            if _take_away(folder, owner.token) and not (dead or owner.is_dead):
                say(f"warning: {owner} gave no sign of life for {LEASE_S:.0f} s: its run is taken over")
                settle_s = trust_s()
        elif time.monotonic() - begin >= _ending_s(owner):
            raise RunBusyError(
                f"the run in {str(folder)!r} is being trained by {owner}. Wait for its end, or stop it "
                f"({owner.stop_by()}), or train into another folder by --out."
            )
    end = time.monotonic() + settle_s
    while time.monotonic() < end:  # the former owner relies on its last renewal for this long
        beat()
        time.sleep(_POLL_S)
    return token


def _ending_s(owner: Owner) -> float:
    """Return how many seconds to wait for the owner's end: more than none if it belongs to this process's Slurm job."""
    now = slurm_facts()
    if not owner.job or owner.job != now["job"]:
        return 0.0
    if owner.attempt != now["attempt"]:
        return ENDING_S
    return 0.0 if owner.token in held_here else LEASE_S


def _clear(folder: Path, attempts: int) -> None:
    """Delete an empty lease folder, which not every file system lets a rename replace; fail after many attempts."""
    lease = RunPaths(folder).lease
    with suppress(OSError):
        lease.rmdir()
    if attempts >= _ATTEMPTS:
        names = ", ".join(sorted(repr(path.name) for path in lease.iterdir())) if lease.exists() else "nothing"
        raise CheckpointError(
            f"the folder {str(lease)!r} can't be taken: it is not a job's lease, and holds {names}. Delete it."
        )


def _is_alive(folder: Path, owner: Owner, beat: Callable[[], object], say: Callable[[str], object]) -> bool:
    """Watch a lease while its file can be read; return whether it is renewed. If not, its owner is gone."""
    silent_s, last, said = 0.0, time.monotonic(), False
    near = all(process.is_near() for process in owner.processes)
    while silent_s < LEASE_S:
        time.sleep(_POLL_S)
        beat()
        try:
            now = read_owner(folder)
        except OSError:
            last = time.monotonic()
            continue
        if now is None or now.token != owner.token or owner.is_dead:
            return False
        if now.number != owner.number:
            return True
        silent_s += min(time.monotonic() - last, 5 * _POLL_S)
        last = time.monotonic()
        if silent_s >= GRACE_S and not said:
            if near and owner.processes and int(stamp()) - int(owner.number) < 1000 * LEASE_S:
                return True
            said = True
            say(f"the run in {folder} is held by {owner}: waiting up to {LEASE_S:.0f} s for a sign of life of it")
    return False


def trust_s() -> float:
    """Return for how many seconds an owner relies on a renewal; after that it renews before it writes anything."""
    return 2 * RENEW_S


def place(folder: Path, token: str, content: bytes) -> bool:
    """Acquire a lease that nobody holds, atomically; return whether that succeeded."""
    lease, prepared = RunPaths(folder).lease, folder / f".lease-{token}"
    prepared.mkdir()
    try:
        (prepared / token).write_bytes(content)
        prepared.rename(lease)
    except OSError as error:
        if (lease / token).exists():  # the server had done it, and was asked a second time
            return True
        with suppress(OSError):
            _remove(prepared)
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            return False
        raise
    return (lease / token).exists()  # if not, another job took it for the remains of a killed one


def _take_away(folder: Path, token: str) -> bool:
    away = folder / f".lease-{token}"
    try:
        (RunPaths(folder).lease / token).rename(away)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):
            return False
        raise
    with suppress(OSError):
        away.unlink()
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        for inner in path.iterdir():
            inner.unlink()
        path.rmdir()
    else:
        path.unlink()

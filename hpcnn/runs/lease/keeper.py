"""Renew the lease of a run folder while a job trains into it, and end the job if the lease is lost."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hpcnn.core.run_paths import RunPaths
from hpcnn.errors import EXIT_FAILURE, CheckpointError
from hpcnn.runs.lease import lease as leases
from hpcnn.runs.lease.lease import Lease, place
from hpcnn.runs.lease.owner import clock, content_of, held_here, read_owner, stamp
from hpcnn.system.processes import Process
from hpcnn.training.callbacks import Callback, Control, EpochReport, StepReport
from hpcnn.training.replica import Replica

_CLOSE_S = 5.0
"""How long the end of a training waits for a disk that hangs; after that the lease is left to expire."""


class LeaseLostError(CheckpointError):
    """Another job has taken over the run, since this one did not renew its lease."""

    exit_code = EXIT_FAILURE


class LeaseKeeper(Callback):
    """Renews a lease on a thread of the rank that writes, for all `processes`, and checks whether it is still held."""

    def __init__(self, lease: Lease, processes: Sequence[Process] = ()) -> None:
        self.lease, self._content = lease, content_of(processes or [Process.own()])
        self._inode = lease.inode
        self._renewed_at, self._look_at = -math.inf, clock() + leases.trust_s()
        self._lost = ""
        self._turn, self._closed = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        held_here.add(lease.token)
        self._renew()  # the rank that acquired it may have died, and the lease may be lost since
        self._thread.start()

    def check(self) -> None:
        """Raise LeaseLostError if another job is known to hold the lease. Call this before anything is written."""
        self._check(wait=True)

    def on_train_begin(self, epoch: int, replica: Replica) -> None:
        """Check."""
        self.check()

    def on_step(self, report: StepReport) -> None:
        """Check, without waiting in each step for a folder that is unreachable."""
        now = clock()
        if self._lost or now > self._look_at:
            self._look_at = now + leases.trust_s()
            self._check(wait=False)

    def on_epoch_end(self, report: EpochReport, replica: Replica, control: Control) -> None:
        """Check."""
        self.check()

    def close(self) -> None:
        """Stop renewing the lease, and release it; the thread does so later if the disk hangs."""
        self._closed.set()
        self._thread.join(_CLOSE_S)

    def _check(self, *, wait: bool) -> None:
        if clock() - self._renewed_at > leases.trust_s():
            self._renew(wait=wait)
        if self._lost:
            raise LeaseLostError(self._lost)

    def _run(self) -> None:
        while not self._closed.wait(leases.RENEW_S) and not self._lost:
            self._renew()
        self._closed.wait()
        self.lease.release()

    def _renew(self, *, wait: bool = True) -> None:
        """Renew the lease; without `wait`, return at once if another thread is renewing it."""
        if not self._turn.acquire(blocking=wait):
            return
        try:
            folder = os.open(self.lease.folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                self._renew_in(folder)
            finally:
                os.close(folder)
        except OSError:  # moved away, unreachable or not writable, perhaps for a while only
            return
        finally:
            self._turn.release()

    def _renew_in(self, folder: int) -> None:
        """Renew the lease in an open folder. A missing lease was taken over: a folder that is moved keeps its files."""
        began = clock()  # not when it ends: a slow write may complete after the lease was taken over
        name = str(RunPaths(Path()).lease / self.lease.token)
        try:
            file = os.open(name, os.O_WRONLY, dir_fd=folder)
        except FileNotFoundError:
            inode = os.fstat(folder).st_ino
            if inode == self._inode or not self._place_again():
                self._lost = self._lost or self._why()
            else:
                self._inode, self._renewed_at = inode, began
            return
        try:
            os.pwrite(file, stamp(), 0)
        finally:
            os.close(file)
        self._renewed_at = began

    def _place_again(self) -> bool:
        """Acquire the lease of a new folder in the place of the run's, which was moved away or deleted."""
        folder = self.lease.folder
        return not RunPaths(folder).job.exists() and place(folder, self.lease.token, self._content)

    def _why(self) -> str:
        owner = None
        with suppress(OSError):
            owner = read_owner(self.lease.folder)
        by = str(owner) if owner else "another job, which has ended"
        silent_s = clock() - self._renewed_at
        silent = "long" if math.isinf(silent_s) else f"{silent_s:.0f} s"  # this rank has never renewed it
        return (
            f"the run in {str(self.lease.folder)!r} was taken over by {by}: this job had given no sign of life for "
            f"{silent}, as one that is suspended. It ends, and writes nothing more."
        )

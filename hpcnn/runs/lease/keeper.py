"""Keeps the lease of a run folder while a job trains into it, and ends the job if it has lost it."""

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
from hpcnn.training.callbacks import Callback, Control, EpochReport
from hpcnn.training.replica import Replica

_CLOSE_S = 5.0
"""A disk that hangs holds up the end of a training for so long; then the lease is left to expire."""


class LeaseLostError(CheckpointError):
    """Another job has taken the run over from this one, which gave no sign of life for long."""

    exit_code = EXIT_FAILURE


class LeaseKeeper(Callback):
    """Renews a lease from a thread, on the rank that writes, and knows whether it is still held.

    Args:
        lease: as it was taken.
        processes: those that may renew it, for a folder that takes the place of the run's.
    """

    def __init__(self, lease: Lease, processes: Sequence[Process] = ()) -> None:
        self.lease, self._content = lease, content_of(processes or [Process.own()])
        self._inode = lease.inode
        self._renewed_at, self._looked_at = -math.inf, clock()
        self._lost = ""
        self._turn, self._closed = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        held_here.add(lease.token)
        self._renew()  # it may have been lost since it was taken: by a rank that has died, on one that takes its place
        self._thread.start()

    def check(self) -> None:
        """Return if the lease is held, as far as can be told. To be called before anything is written.

        Raises:
            LeaseLostError: another job has taken it.
        """
        self._check(wait=True)

    def on_train_begin(self, epoch: int, replica: Replica) -> None:
        """Check."""
        self.check()

    def on_step(self, step_in_epoch: int) -> None:
        """Check, but do not let each step wait for a folder that is out of reach."""
        now = clock()
        if self._lost or now - self._looked_at > leases.trust_s():
            self._looked_at = now
            self._check(wait=False)

    def on_epoch_end(self, report: EpochReport, replica: Replica, control: Control) -> None:
        """Check."""
        self.check()

    def close(self) -> None:
        """Renew it no more, and release it, or leave that to the thread if the disk hangs."""
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
        """Renew it, unless another thread is at it, and this one is not to wait for that."""
        if not self._turn.acquire(blocking=wait):
            return
        try:
            folder = os.open(self.lease.folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                self._renew_in(folder)
            finally:
                os.close(folder)
        except OSError:  # moved away, out of reach, or can't be written to: maybe for a while
            return
        finally:
            self._turn.release()

    def _renew_in(self, folder: int) -> None:
        """Renew it in an open folder. If it is not there it was taken: a folder that is moved takes all along."""
        began = clock()  # a write that takes long may come after the lease was taken: it proves nothing of its end
        name = str(RunPaths(Path()).lease / self.lease.token)
        try:
            file = os.open(name, os.O_WRONLY, dir_fd=folder)
        except FileNotFoundError:
            inode = os.fstat(folder).st_ino
            if inode == self._inode or not self._place_anew():
                self._lost = self._lost or self._why()
            else:
                self._inode, self._renewed_at = inode, began
            return
        try:
            os.pwrite(file, stamp(), 0)
        finally:
            os.close(file)
        self._renewed_at = began

    def _place_anew(self) -> bool:
        """Take the lease of a folder that was made where the run's was, before that was moved away or deleted."""
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

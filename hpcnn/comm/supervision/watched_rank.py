"""The side of the rank that is watched: starts the watcher, shows it what the rank does, and aborts when it says so."""

from __future__ import annotations

import atexit
import faulthandler
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import hpcnn
from hpcnn.comm.abort import abort_job
from hpcnn.comm.launcher import Launch, local_size, outlive_each_other, rank_variable
from hpcnn.comm.supervision.rank_page import (
    ALL_NEAR,
    CONNECTED,
    CONNECTING,
    ENDED,
    FAILING,
    LEAVING,
    MOST_NEAR,
    PAGE_BYTES,
    RECOVERING,
    SPARE,
    STACK_SIGNAL,
    WATCHED,
    RankPage,
)
from hpcnn.core.activity import WAIT, Activity, thread_frames
from hpcnn.errors import EXIT_STALLED
from hpcnn.system.processes import Process

_PERIOD_S = 0.25
_TOLD_S = 5.0
"""Within this time a watcher has reported a dead rank and ended the job."""
_PROGRAM = f"""
import sys
sys.path.insert(0, {str(Path(hpcnn.__file__).parents[1])!r})
from hpcnn.comm.supervision.watcher import main
main()
"""


class WatchedRank:
    """The current process, as its watcher sees it. Without a watcher, every method does nothing."""

    def __init__(self) -> None:
        self._page: RankPage | None = None
        self._file = -1
        self._child: subprocess.Popen[bytes] | None = None
        self._process = os.getpid()
        self._activity, self._thread = Activity(), threading.get_ident()
        self._beats = 0
        self._limits: list[tuple[float, int]] = [(0.0, 0)]
        self._all_near = 0
        self.finalizes = True
        """Whether `end` is called once MPI is finalized."""

    def start(self, launch: Launch) -> None:
        """Start the watcher of this rank, if possible."""
        from hpcnn.comm.shared_memory import file_in_memory  # imports NumPy

        if launch.size == 1 or not sys.executable or getattr(sys, "frozen", False):
            return
        with suppress(OSError, ValueError):
            file = file_in_memory("rank")
            os.ftruncate(file, PAGE_BYTES)
            page = RankPage(mmap.mmap(file, PAGE_BYTES))
            numbers = file, os.getpid(), launch.rank, local_size(), int(outlive_each_other())
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _PROGRAM, *map(str, numbers), rank_variable()],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=(file,), start_new_session=True, cwd="/",
            )  # fmt: skip
            self._page, self._file = page, file
            self._write_limits()

    def joined(self, activity: Activity, everyone: Sequence[tuple[Process, int]], own: int) -> None:
        """Show which ranks are on this host. From now on the watcher may ask this rank to end the job."""
        if self._page is None:
            return
        first = self._page.read("stage") == CONNECTING
        self._activity, self._thread = activity, threading.get_ident()
        near = [
            (rank, process.number, int(process.start), file)
            for rank, (process, file) in enumerate(everyone)
            if rank != own and process.is_near()
        ][:MOST_NEAR]
        self._page.write_near(near)
        self._all_near = ALL_NEAR * (len(near) + 1 == len(everyone))
        self._write_limits()
        if first:
            self._write("stage", CONNECTED)
            threading.Thread(target=self._show, name="supervision", daemon=True).start()
            atexit.register(self.leave)

    @property
    def file(self) -> int:
        """The descriptor of the page, by which other ranks of this host open it."""
        return self._file

    def leave(self) -> None:
        """Show that MPI_Finalize is the only MPI call left."""
        self._write("stage", LEAVING if self.finalizes else ENDED)

    def report_loss(self) -> None:
        """Let the watcher report which rank has died, and end the job; return if it knows of none."""
        if self._page is None or not outlive_each_other() or self._page.read("stage") != CONNECTED:
            return
        self._page.write_activity(str(self._activity))
        self._write("stage", FAILING)
        time.sleep(_TOLD_S)

    def end(self) -> None:
        """Show that MPI is finalized: nothing is watched any more."""
        self._write("stage", ENDED)

    @contextmanager
    def recovering(self) -> Iterator[None]:
        """Show, within the block, that this rank regroups with the others after a loss."""
        self._write("stage", RECOVERING)
        try:
            yield
        finally:
            self._write("stage", CONNECTED)

    @contextmanager
    def limited(self, abort_s: float, *, spare: bool = False, watched: bool = False) -> Iterator[None]:
        """End the job after a stall of `abort_s` seconds within the block; 0 is never.

        Args:
            abort_s: how long this rank may wait for one that does not come.
            spare: whether the others can continue without one.
            watched: whether waiting is not a stall here: a watchdog of this rank limits it, or nothing is to.
        """
        self._limits.append((abort_s, SPARE * spare | WATCHED * watched))
        self._write_limits()
        try:
            yield
        finally:
            self._limits.pop()
            self._write_limits()

    def limit(self, abort_s: float, *, watched: bool = False) -> None:
        """End the job after a stall of `abort_s` seconds from now on, outside of `limited`."""
        self._limits[0] = (abort_s, WATCHED * watched)
        self._write_limits()

    def show_stack_after(self, stack_s: float) -> None:
        """Have the main thread's stack printed if no Python can run for so many seconds; 0 is never.

        C code may keep the interpreter lock for ever. An alarm of faulthandler can't tell whether it does: it may go
        off just when a process that was stopped goes on, and reading the stack of running Python may crash it.
        """
        free = STACK_SIGNAL and signal.getsignal(STACK_SIGNAL) is signal.SIG_DFL
        if self._page is not None and (stack_s == 0 or free):
            if stack_s:  # it stays registered: without it, a signal that is under way would end this rank
                faulthandler.register(STACK_SIGNAL, file=2, all_threads=False)
            self._page.write_seconds("stack_s", stack_s)

    # ------------------------------------------------------------------------------------------------------ showing

    def _write(self, name: str, value: int) -> None:
        if self._page is not None and os.getpid() == self._process:
            self._page.write(name, value)

    def _write_limits(self) -> None:
        abort_s, flags = self._limits[-1]
        if self._page is not None:
            self._page.write_seconds("abort_s", abort_s)
        self._write("flags", flags | self._all_near)

    def _show(self) -> None:
        """Show periodically what the rank is doing, and whether it is still in the same wait."""
        page = self._page
        assert page is not None
        while True:
            wait = self._wait()
            page.write_activity(str(self._activity))
            self._write("wait", wait)
            self._beats += 1
            self._write("beats", self._beats)
            time.sleep(_PERIOD_S)
            if page.read("end"):
                abort_job(EXIT_STALLED)

    def _wait(self) -> int:
        """Return a number that stays the same as long as this rank is in one collective call; 0 if it is in none."""
        frame = _innermost(thread_frames().get(self._thread))
        name = str(frame.f_globals["__name__"]) if frame is not None else ""
        if name.startswith("hpcnn.comm.") or self._activity.phase == WAIT:
            return 1 + (hash((self._activity.changes, id(frame))) & (2**62 - 1))
        return 0


def _innermost(frame: Any) -> Any:
    """Return the innermost frame of this package."""
    while frame is not None and not str(frame.f_globals.get("__name__", "")).startswith("hpcnn."):
        frame = frame.f_back
    return frame


watched_rank = WatchedRank()
"""This process."""

"""Observe the other threads of this process without their cooperation."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import FrameType

from hpcnn.core.activity import thread_frames

_CPU_SHARE = 0.05
_IO_BYTES_PER_S = 64 * 1024
"""Below both rates, a process counts as idle."""


class ActivityProbe:
    """Measures whether the thread that created it computes, or its process reads or writes."""

    def __init__(self) -> None:
        try:
            self._clock = time.pthread_getcpuclockid(threading.get_ident())
        except (AttributeError, OSError):  # not on every system
            self._clock = time.CLOCK_PROCESS_CPUTIME_ID
        self._queue = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        self._waited_s = self._queued_total_s()
        self.queued_s = 0.0
        """Time that the thread waited for a core, within the last measured interval."""
        self._cpu_s, self._bytes = self._measure()

    def was_active(self, seconds: float) -> bool:
        """Return whether there was activity in the `seconds` since the last call."""
        before, bytes_before = self._cpu_s, self._bytes
        self._cpu_s, self._bytes = self._measure()
        waited_s, self._waited_s = self._waited_s, self._queued_total_s()
        self.queued_s = min(self._waited_s - waited_s, seconds)
        seconds -= self.queued_s
        return self._cpu_s - before > _CPU_SHARE * seconds or self._bytes - bytes_before > _IO_BYTES_PER_S * seconds

    def _queued_total_s(self) -> float:
        """Return the seconds that the thread has waited for a core so far; 0 if the system does not tell."""
        try:
            return int(self._queue.read_text().split()[1]) / 1e9
        except (OSError, ValueError, IndexError):
            return 0.0

    def _measure(self) -> tuple[float, int]:
        try:
            cpu_s = time.clock_gettime(self._clock)
        except OSError:  # the thread has ended
            cpu_s = self._cpu_s
        try:
            counts = Path("/proc/self/io").read_text().split()
        except OSError:
            return cpu_s, 0
        return cpu_s, sum(int(counts[counts.index(name) + 1]) for name in ("rchar:", "wchar:", "read_bytes:"))


def is_within(thread: int, package: str) -> bool:
    """Return whether the innermost Python frame of a thread is in a module of `package`."""
    frame = thread_frames().get(thread)
    return frame is not None and str(frame.f_globals.get("__name__", "")).startswith(f"{package}.")


def stacks() -> str:
    """Return the stacks of all threads but the calling one, the main thread first, formatted as by faulthandler.

    Unlike a traceback it reads no source files: the file system may be what hangs.
    """
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = {number: frame for number, frame in thread_frames().items() if number != threading.get_ident()}
    main = threading.main_thread().ident
    return "\n".join(
        f"{names.get(number, 'a thread')} (most recent call first):\n{_calls(frames[number])}"
        for number in sorted(frames, key=lambda number: number != main)
    )


def _calls(frame: FrameType | None) -> str:
    lines = []
    while frame is not None:
        lines.append(f'  File "{frame.f_code.co_filename}", line {frame.f_lineno} in {frame.f_code.co_name}')
        frame = frame.f_back
    return "\n".join(lines)

"""A rank's request to stop: set by a signal, read by the training loop, summed over all ranks with the gradients."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

from hpcnn.errors import EXIT_INTERRUPTED, EXIT_STOPPED

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
REPEAT_S = 1.0
"""A terminal and the launcher may both deliver one Ctrl-C; only a later one ends the job at once."""

_listening: set[StopRequest] = set()
"""Requests that a forked child closes, since a function that is registered for forks can't be removed."""


def handled() -> list[signal.Signals]:
    """Return the signals to handle: all, except SIGHUP where it is ignored, as under ``nohup``."""
    return [one for one in SIGNALS if one != signal.SIGHUP or signal.getsignal(one) != signal.SIG_IGN]


Leave = Callable[[str, int], object]
"""Ends the job at once, with a message and an exit code; called on a thread."""


class Clock(Protocol):
    """Knows when the run has used up its time."""

    def time_is_up(self) -> bool:
        """Return whether to stop now. Called once per step, and once per piece of an evaluation."""
        ...


class StopRequest:
    """A flag that asks this rank to stop: signals set it after `listen`, and `ask` at any time.

    A thread reads the signals, since the main thread runs no handlers while it waits within MPI. Before
    `begin_training` there is nothing to save, and a signal ends the job; later it sets the flag. A second SIGINT, at
    least a second after the first, always ends the job.
    """

    def __init__(self) -> None:
        self.begin = time.monotonic()
        """When the command began."""
        self.reason: str | None = None
        """Why to stop; None without a request."""
        self.clock: Clock | None = None
        """May also request a stop."""
        self._training = False
        self._first_interrupt = 0.0
        self._leave: Leave = lambda message, exit_code: None
        self._before: dict[signal.Signals, Any] = {}
        self._writes = self._wakeup_before = -1

    @property
    def requested(self) -> bool:
        """Whether this rank is to stop. For the loop, once per step or piece: it also checks the clock."""
        if self.reason is None and self.clock is not None and self.clock.time_is_up():
            self.ask("run.max_minutes")
        return self.reason is not None

    def ask(self, reason: str) -> None:
        """Request a stop for a reason other than a signal; the first reason is kept."""
        self.reason = self.reason or reason

    def begin_training(self) -> None:
        """Let signals set the flag from now on, instead of ending the job."""
        self._training = True

    def listen(self, leave: Leave) -> None:
        """Handle signals from now on; `leave` ends the job. Call it on the main thread."""
        self._leave = leave
        reads, self._writes = os.pipe()
        os.set_blocking(self._writes, False)
        self._wakeup_before = signal.set_wakeup_fd(self._writes, warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, _ignore) for number in handled()}
        _listening.add(self)
        threading.Thread(target=self._read, args=(reads,), name="signals", daemon=True).start()

    def reinstall(self) -> None:
        """Install the handlers again after a library replaced them: UCX, below MPICH, takes SIGHUP."""
        for number in self._before:
            signal.signal(number, _ignore)

    def close(self) -> None:
        """Restore the previous handlers."""
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
        os.close(self._writes)
        _listening.discard(self)

    def _read(self, reads: int) -> None:
        while numbers := os.read(reads, 1):
            if numbers[0] in SIGNALS:
                self._take(signal.Signals(numbers[0]))
        os.close(reads)

    def _take(self, number: signal.Signals) -> None:
        if number == signal.SIGINT:
            now = time.monotonic()
            if self._first_interrupt and now - self._first_interrupt > REPEAT_S:
                self._leave("interrupted twice: left at once, without saving", EXIT_INTERRUPTED)
            self._first_interrupt = self._first_interrupt or now
        self.ask(number.name)
        if not self._training:
            self._leave(f"stopped by {number.name} before there was anything to save", EXIT_STOPPED)


def _forget() -> None:
    """Restore the previous handlers in a forked child, which is not a rank and shares the pipe."""
    for request in tuple(_listening):
        request.close()


os.register_at_fork(after_in_child=_forget)


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing: with a handler installed, Python writes the signal's number to the pipe at once."""

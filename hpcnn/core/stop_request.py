"""The wish to stop: raised by a signal, read by the training loop, carried to all ranks in its next message."""

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
"""A terminal and the launcher may both deliver one Ctrl-C; only a later one means: leave at once."""

_listening: set[StopRequest] = set()
"""Whom a forked child frees of its signals. Kept here until they close: what is registered for forks stays for ever."""


def handled() -> list[signal.Signals]:
    """Return the signals that this process is to take: all, but for SIGHUP where it is ignored, as under ``nohup``."""
    return [one for one in SIGNALS if one != signal.SIGHUP or signal.getsignal(one) != signal.SIG_IGN]


Leave = Callable[[str, int], object]
"""Ends the job at once, with a message and an exit code; called on a thread."""


class Clock(Protocol):
    """Knows when the time of a run is up."""

    def time_is_up(self) -> bool:
        """Return whether to stop now. Called once a step, and once a piece of an evaluation."""
        ...


class StopRequest:
    """The wish of this rank to stop: a flag that signals raise from `listen` on, and `ask` at any time.

    Signals are read on a thread of their own: the main thread would not come to its handlers while it waits within
    MPI. What a signal does depends on how far the command is. Before `begin_training` nothing is at stake: it ends the
    job. From then on it raises the flag. A second SIGINT, at least a second after the first, ends the job in any case.
    """

    def __init__(self) -> None:
        self.begin = time.monotonic()
        """When the command began."""
        self.reason: str | None = None
        """Why to stop; None as long as nobody asks for it."""
        self.clock: Clock | None = None
        """What else may ask for a stop."""
        self._training = False
        self._first_interrupt = 0.0
        self._leave: Leave = lambda message, exit_code: None
        self._before: dict[signal.Signals, Any] = {}
        self._writes = self._wakeup_before = -1

    @property
    def requested(self) -> bool:
        """Whether this rank was asked to stop. For the loop, once a step or piece: it looks at the clock, too."""
        if self.reason is None and self.clock is not None and self.clock.time_is_up():
            self.ask("run.max_minutes")
        return self.reason is not None

    def ask(self, reason: str) -> None:
        """Ask to stop, for another reason than a signal; the first reason is kept."""
        self.reason = self.reason or reason

    def begin_training(self) -> None:
        """Let signals raise the flag from now on, in place of ending the job."""
        self._training = True

    def listen(self, leave: Leave) -> None:
        """Handle signals from now on; `leave` ends the job. For the main thread."""
        self._leave = leave
        reads, self._writes = os.pipe()
        os.set_blocking(self._writes, False)
        self._wakeup_before = signal.set_wakeup_fd(self._writes, warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, _leave_it_to_the_thread) for number in handled()}
        _listening.add(self)
        threading.Thread(target=self._read, args=(reads,), name="signals", daemon=True).start()

    def take_back(self) -> None:
        """Handle the signals that a library has taken for itself: UCX, below MPICH, has SIGHUP begin its debug log."""
        for number in self._before:
            signal.signal(number, _leave_it_to_the_thread)

    def close(self) -> None:
        """Handle signals no longer."""
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
    """Leave a forked child as it would be without us: it shares the pipe, and is no rank."""
    for request in tuple(_listening):
        request.close()


os.register_at_fork(after_in_child=_forget)


def _leave_it_to_the_thread(number: int, frame: FrameType | None) -> None:
    """Do nothing: with a handler in place, Python writes the signal's number to the pipe, whatever it is doing."""

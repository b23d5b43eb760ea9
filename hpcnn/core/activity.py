"""What a rank is doing: for failure reports, the watchdog, the time log, and injected faults."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SET_UP, DATA, FORWARD, BACKWARD = "set-up", "data", "forward", "backward"
WAIT, REDUCE, OPTIMIZER, OTHER = "wait", "reduce", "optimizer", "other"
EVALUATE, SAVE, RECOVER = "evaluate", "save", "recover"
PHASES = (SET_UP, DATA, FORWARD, BACKWARD, WAIT, REDUCE, OPTIMIZER, EVALUATE, SAVE, RECOVER, OTHER)
"""What a rank may be doing. `wait`: for other ranks; `reduce`: adding their gradients and sending the sums."""


class Activity:
    """The current phase of a rank, its epoch and step, and the seconds spent in each phase so far.

    >>> activity = Activity()
    >>> activity.enter(FORWARD)
    >>> activity.enter(BACKWARD)
    >>> sorted(activity.seconds)
    ['forward', 'set-up']
    """

    def __init__(self) -> None:
        self.phase = SET_UP
        self.since = time.perf_counter()
        """When the phase began."""
        self.epoch = 0
        """The current epoch, from 1; 0 before training."""
        self.step = 0
        """The current step, counted over the whole training from 1; 0 before training."""
        self.changes = 0
        """Counts the phases entered: as long as it grows, the rank makes progress."""
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.on_enter: Callable[[], None] | None = None
        """Called when a phase is entered; for injected faults and timelines."""
        self.exchange_thread: Activity | None = None
        """The activity of the thread that exchanges gradients during the computation, if it is recorded. Its seconds
        are not included here."""

    def enter(self, phase: str) -> None:
        """End the current phase and begin `phase`, which may be the same one."""
        now = time.perf_counter()
        self.seconds[self.phase] += now - self.since
        self.phase, self.since = phase, now
        self.changes += 1
        if self.on_enter is not None:
            self.on_enter()

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Be in `phase` within the block, then in the previous phase; if the block raises, the phase stays."""
        before = self.phase
        self.enter(phase)
        yield
        self.enter(before)

    def __str__(self) -> str:
        if not self.step:
            return f"phase {self.phase}"
        return f"phase {self.phase}, step {self.step} (epoch {self.epoch})"


_collector = threading.Lock()
"""Held while the garbage collector is off: a second thread would find it off, and leave it off."""


def thread_frames() -> dict[int, FrameType]:
    """Return the frame of each thread, as `sys._current_frames` does, with the garbage collector off.

    Python 3.11 holds a lock meanwhile that freeing a `threading.local` takes too: a garbage collection that frees one
    then deadlocks all threads (CPython issue 106883).
    """
    with _collector:
        was_on = gc.isenabled()
        gc.disable()
        try:
            return sys._current_frames()
        finally:
            if was_on:
                gc.enable()

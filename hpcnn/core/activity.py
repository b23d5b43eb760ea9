"""What a rank is doing: for reports of a failure, the watchdog, the account of where time goes, and injected faults."""

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
"""What a rank may be doing. `wait`: for other ranks; `reduce`: adding their gradients, and sending them on."""


class Activity:
    """The one phase that a rank is in, its place in the training, and the seconds spent in each phase so far.

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
        """The epoch under way, from 1; 0 before the training begins."""
        self.step = 0
        """The step under way, counted over the whole training from 1; 0 before it begins."""
        self.changes = 0
        """Grows with each phase entered: as long as it grows, the rank gets on."""
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.on_enter: Callable[[], None] | None = None
        """Called in each phase entered; for faults that are injected, and for timelines."""
        self.exchange_thread: Activity | None = None
        """What the thread does that exchanges gradients beside the computation, if somebody wants to know. Its own
        seconds are not among these."""

    def enter(self, phase: str) -> None:
        """End the current phase and begin `phase`, or begin it anew."""
        now = time.perf_counter()
        self.seconds[self.phase] += now - self.since
        self.phase, self.since = phase, now
        self.changes += 1
        if self.on_enter is not None:
            self.on_enter()

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Be in `phase` within the block, and in the phase of before after it; one that raises stays in its phase."""
        before = self.phase
        self.enter(phase)
        yield
        self.enter(before)

    def __str__(self) -> str:
        if not self.step:
            return f"phase {self.phase}"
        return f"phase {self.phase}, step {self.step} (epoch {self.epoch})"


_collector = threading.Lock()
"""Held while the garbage collector is off: of two threads, the second would find it off, and leave it so."""


def thread_frames() -> dict[int, FrameType]:
    """Return the frame of each thread, as `sys._current_frames` does, with the garbage collector off.

    Python 3.11 holds a lock meanwhile that the end of a `threading.local` takes too. A collection that comes upon one
    there stops all threads for ever (CPython's issue 106883).
    """
    with _collector:
        was_on = gc.isenabled()
        gc.disable()
        try:
            return sys._current_frames()
        finally:
            if was_on:
                gc.enable()

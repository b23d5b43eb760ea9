"""When the parts of an exchange are done: at once at its end, or on a thread beside the computation that fills them."""

from __future__ import annotations

import queue
import sys
import threading
import weakref
from collections.abc import Callable

import numpy as np

from hpcnn.system.denormals import FlushDenormals

WaitFor = Callable[[int], None]
"""``start -> None``: returns once all entries from `start` on are ready."""
Run = Callable[[WaitFor | None], None]
"""Does a step. On a thread it is given what to call before it touches entries; else all are ready."""


class ExchangeThread:
    """Runs each step of an exchange.

    Args:
        run: does one step.
        threaded: on a thread, from the first `ready` on, in place of within `finish`. To be changed between steps
            only, and on all ranks alike.
    """

    def __init__(self, run: Run, *, threaded: bool) -> None:
        self._run, self.threaded = run, threaded
        self._thread: threading.Thread | None = None
        self._steps: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._ends: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._ready_from = sys.maxsize

    def start(self) -> None:
        """Begin a step of which nothing is ready."""
        self._ready_from = sys.maxsize
        if self.threaded:
            if self._thread is None:
                self._thread = threading.Thread(target=_serve, args=(self._steps,), name="exchange", daemon=True)
                self._thread.start()
                weakref.finalize(self, self._steps.put, None).atexit = False
            self._steps.put(self._step)

    def ready(self, start: int) -> None:
        """Let the step go on to the entries from `start` on."""
        if self.threaded:
            with self._changed:
                self._ready_from = start
                self._changed.notify()

    def finish(self) -> None:
        """Do the step, or wait for its end.

        Raises:
            Exception: whatever it raised.
        """
        if not self.threaded:
            self._run(None)
            return
        self.ready(0)
        error = self._ends.get()
        if error is not None:
            raise error

    def _wait_for(self, start: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._ready_from <= start)

    def _step(self) -> None:
        try:
            self._run(self._wait_for)
        except BaseException as error:  # re-raised by finish, in the caller's thread
            self._ends.put(error)
        else:
            self._ends.put(None)


def _serve(steps: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    """Do steps until there is None. Between them hold nothing: an exchange that nobody uses any more is to go."""
    # Both modes of arithmetic belong to a thread, and the bits must not depend on which one adds.
    with FlushDenormals(), np.errstate(all="ignore"):
        while (step := steps.get()) is not None:
            step()
            del step

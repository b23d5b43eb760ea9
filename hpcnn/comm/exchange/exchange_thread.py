"""Where the steps of an exchange run: at their end, or on a thread beside the computation that fills the buffers."""

from __future__ import annotations

import queue
import sys
import threading
import weakref
from collections.abc import Callable
from functools import partial

import numpy as np

from hpcnn.comm.protocol import UpdateStep
from hpcnn.system.denormals import FlushDenormals, flushing

_FLUSH, _KEEP = FlushDenormals(), FlushDenormals(flush=False)


class ExchangeThread:
    """Runs each step of an exchange, inline or on a thread of its own.

    Args:
        threaded: on a thread, from `start` on, in place of within `finish`. Change it between steps only, and on all
            ranks alike.
    """

    def __init__(self, *, threaded: bool) -> None:
        self.threaded = threaded
        self._step: UpdateStep | None = None
        self._thread: threading.Thread | None = None
        self._steps: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._ends: queue.SimpleQueue[bool | BaseException] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._ready_from = sys.maxsize

    def start(self, step: UpdateStep) -> None:
        """Begin a step of which nothing is ready."""
        self._ready_from = sys.maxsize
        if not self.threaded:
            self._step = step
            return
        if self._thread is None:
            self._thread = threading.Thread(target=_serve, args=(self._steps,), name="exchange", daemon=True)
            self._thread.start()
            weakref.finalize(self, self._steps.put, None).atexit = False
        self._steps.put(partial(self._run, step, flushing()))

    def ready(self, start: int) -> None:
        """Let the step proceed to the entries from `start` on."""
        if self.threaded:
            with self._changed:
                self._ready_from = start
                self._changed.notify()

    def wait_for(self, start: int) -> None:
        """Return once all entries from `start` on are ready. For the step."""
        if self.threaded:
            with self._changed:
                self._changed.wait_for(lambda: self._ready_from <= start)

    def finish(self) -> bool:
        """Run the step, or wait for its end; return what it returns.

        Raises:
            Exception: whatever it raised.
        """
        if not self.threaded:
            assert self._step is not None
            return self._step()
        self.ready(0)
        end = self._ends.get()
        if isinstance(end, BaseException):
            raise end
        return end

    def _run(self, step: UpdateStep, flush: bool) -> None:
        try:
            # Modes of arithmetic belong to a thread, and the bits must not depend on which one adds.
            with _FLUSH if flush else _KEEP:
                self._ends.put(step())
        except BaseException as error:  # re-raised by finish, in the caller's thread
            self._ends.put(error)


def _serve(steps: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    """Run steps until there is None. Between them hold nothing, so that an exchange that is out of use can go."""
    with np.errstate(all="ignore"):
        while (step := steps.get()) is not None:
            step()
            del step

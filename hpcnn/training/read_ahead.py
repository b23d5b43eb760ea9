"""A thread that reads the next batches while a step is computed."""

from __future__ import annotations

import atexit
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Generic, TypeVar

T = TypeVar("T")
BEAT_S = 0.2
"""Longest wait for a batch without looking whether the thread makes progress."""
LAST_WAIT_S = 10.0
"""Longest wait for the thread's last read when it is told to end."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5e-5, 1e-3
"""Between two looks at whether other ranks have come as far."""


class ClosedError(Exception):
    """The thread was told to end."""


class Reading:
    """What a read in progress is told, and tells: whether to break off, and that it makes progress."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.progress = 0

    def tick(self) -> None:
        """Count some progress. ClosedError: the read is to be broken off."""
        self.progress += 1
        if self.closed.is_set():
            raise ClosedError

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Return once `condition` holds, asked in pauses that grow. ClosedError: the read is to be broken off."""
        pause_s = FIRST_PAUSE_S
        while not condition():
            if self.closed.wait(pause_s):
                raise ClosedError
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


Read = Callable[[int, T, Reading], None]
"""``read(step, buffer, reading)`` fills the buffer with what that step needs."""


class ReadAhead(Generic[T]):
    """Reads batch after batch, on a thread, into buffers that are used in turn.

    Args:
        read: reads one batch.
        steps: the batches, in order.
        buffers: as many batches are read ahead; with `ahead` false there is one, and no thread.
        beat: called when a long wait makes progress.
        around: the context of all reads on the thread.
    """

    def __init__(
        self,
        read: Read[T],
        steps: Iterable[int],
        buffers: Sequence[T],
        *,
        ahead: bool = True,
        beat: Callable[[], object] = bool,
        around: AbstractContextManager[object] | None = None,
    ) -> None:
        self._read, self._steps, self._beat = read, iter(steps), beat
        self._around = around or nullcontext()
        self._reading = Reading()
        self._free: queue.SimpleQueue[T | None] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[T | BaseException] = queue.SimpleQueue()
        for buffer in buffers:
            self._free.put(buffer)
        self._ahead = ahead
        self._thread: threading.Thread | None = None
        if ahead:
            self._thread = threading.Thread(target=self._run, name="hpcnn-read-ahead", daemon=True)
            self._thread.start()
            atexit.register(self.close)  # a library must not be unloaded under a read

    def take(self) -> T:
        """Return the next batch; hand it back by `give_back`. What its read raised is raised here."""
        if not self._ahead and self._ready.empty():
            self._read_next()
        seen = self._reading.progress
        while True:
            try:
                ready = self._ready.get(timeout=BEAT_S)
                break
            except queue.Empty:
                if self._reading.progress != seen:
                    seen = self._reading.progress
                    self._beat()
        if isinstance(ready, BaseException):
            self._ready.put(ready)  # for whoever asks again
            raise ready
        return ready

    def give_back(self, buffer: T) -> None:
        """Let the next batch be read into this buffer."""
        self._free.put(buffer)

    def close(self) -> None:
        """End the thread, after the read under way. It may be called twice."""
        self._reading.closed.set()
        self._free.put(None)
        if self._thread is not None:
            self._thread.join(LAST_WAIT_S)  # a file system that hangs must not keep the process
            self._thread = None
            atexit.unregister(self.close)

    def _run(self) -> None:
        with self._around:
            while self._read_next():
                pass

    def _read_next(self) -> bool:
        """Read a batch, and return whether to go on."""
        step, buffer = next(self._steps, None), self._free.get()
        if step is None or buffer is None:
            return False
        try:
            self._read(step, buffer, self._reading)
            self._reading.tick()
        except ClosedError:
            return False
        except BaseException as error:  # raised where the batch is taken
            self._ready.put(error)
            return False
        self._ready.put(buffer)
        return True

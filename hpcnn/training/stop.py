"""The wish to stop: set by a signal, read by the training loop, carried to all ranks in its next message."""

from __future__ import annotations

import signal
import time
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_REPEAT_S = 1.0
"""A terminal and the launcher may both deliver one Ctrl-C; only a later one means: leave at once."""


class StopRequest:
    """A flag that SIGINT, SIGTERM, SIGUSR1 and SIGUSR2 raise while this is entered. Nothing is done in a handler.

    A second SIGINT, at least a second after the first, raises KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._first_interrupt = 0.0
        self._before: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether this rank was asked to stop."""
        return self.reason is not None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            now = time.monotonic()
            if self._first_interrupt and now - self._first_interrupt > _REPEAT_S:
                raise KeyboardInterrupt
            self._first_interrupt = self._first_interrupt or now
        self.reason = signal.Signals(number).name

    def __enter__(self) -> StopRequest:
        self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

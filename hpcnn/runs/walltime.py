"""A wall-time limit that includes the last checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable

_BYTES_PER_S = 100e6
"""Assumed write speed before the first checkpoint."""
_MARGIN, _MARGIN_S = 1.5, 1.0
"""The next save may take this many times as long as the last one, and this much longer."""


class WallTime:
    """Decides when to stop, so that the last checkpoint is complete `limit_s` after `begin`.

    `begin` is by `time.monotonic`. A checkpoint has about `state_bytes`; `save_seconds` returns the duration of the
    last save, None before the first.
    """

    def __init__(
        self, limit_s: float, begin: float, *, state_bytes: float, save_seconds: Callable[[], float | None]
    ) -> None:
        self._end = begin + limit_s
        self._first_save_s = state_bytes / _BYTES_PER_S
        self._save_seconds = save_seconds
        self._called: float | None = None
        self._longest_s = 0.0
        """The longest time between two calls: of a step with all that follows it, or of a piece of an evaluation."""

    def time_is_up(self) -> bool:
        """Return whether to stop now. To be called before each step, and before each piece of an evaluation.

        A stop takes effect after the step that begins now. Without one, another step passes before the next call.
        """
        now = time.monotonic()
        if self._called is not None:
            self._longest_s = max(self._longest_s, now - self._called)
        self._called = now
        last = self._save_seconds()
        save_s = _MARGIN * (self._first_save_s if last is None else last) + _MARGIN_S
        return now + 2 * self._longest_s + save_s > self._end

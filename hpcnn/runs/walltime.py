"""A limit of wall-clock time that includes the last checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable

_BYTES_PER_S = 100e6
"""How fast a checkpoint is taken to be written, as long as none was."""
_MARGIN, _MARGIN_S = 1.5, 1.0
"""A file system is not always as fast as the last time: a save may take so many times as long, and so much more."""


class WallTime:
    """Finds when to stop, so that the checkpoint is complete before the time is over.

    Args:
        limit_s: seconds from `begin` on; 0 for no limit.
        begin: when the command began, on the clock of `time.monotonic`.
        state_bytes: about the size of a checkpoint.
        save_seconds: returns how long the last save took, or None if there was none.
    """

    def __init__(
        self, limit_s: float, begin: float, *, state_bytes: float, save_seconds: Callable[[], float | None]
    ) -> None:
        self._end = begin + limit_s if limit_s else float("inf")
        self._first_save_s = state_bytes / _BYTES_PER_S
        self._save_seconds = save_seconds
        self._looked: float | None = None
        self._longest_s = 0.0
        """The longest time between two looks: a step, with all that comes after it, or a piece of an evaluation."""

    def time_is_up(self) -> bool:
        """Return whether to stop now. To be asked before each step, and before each piece of an evaluation.

        A stop takes hold after the step that begins now; if none is asked for, another step comes before the next one.
        """
        now = time.monotonic()
        if self._looked is not None:
            self._longest_s = max(self._longest_s, now - self._looked)
        self._looked = now
        last = self._save_seconds()
        save_s = _MARGIN * (self._first_save_s if last is None else last) + _MARGIN_S
        return now + 2 * self._longest_s + save_s > self._end

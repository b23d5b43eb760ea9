"""Time in tests: waiting for what must come, and limits on what must be quick."""

from __future__ import annotations

import time
from collections.abc import Callable

WAIT_S = 300.0
"""What has not come by then, on the busiest machine, never will."""
_POLL_S = 0.05


class TooSlowError(AssertionError):
    """All was right, but late: a test that is marked ``timed`` is run again then, and for nothing else."""


def check_in_time(seconds: float, limit_s: float) -> None:
    """Raise TooSlowError if something took longer than it may where nothing else is going on."""
    if seconds >= limit_s:
        raise TooSlowError(f"{seconds:.1f} s, where {limit_s:g} are allowed")


def wait_until(condition: Callable[[], object], otherwise: Callable[[], object] = str) -> None:
    """Wait until a condition holds; AssertionError, with what `otherwise` returns, if it never does."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain. {otherwise()}"
        time.sleep(_POLL_S)

"""The same call made by several threads at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
PATIENCE_S = 60.0


def at_once(body: Callable[[int], T], threads: int = 4) -> list[T]:
    """Return ``body(number)`` of as many threads, which begin together; raise what one of them raises."""
    start = threading.Barrier(threads, timeout=PATIENCE_S)

    def begin(number: int) -> T:
        start.wait()
        return body(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(begin, range(threads)))

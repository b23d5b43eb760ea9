"""Calls that a thread makes while the script goes on, in the order in which they were submitted."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from hpcnn.comm.tensors.world import mpi_threads_supported

_pool: list[ThreadPoolExecutor] = []
_pending: list[Future[Any]] = []


def submit(call: Callable[[], Any]) -> Future[Any]:
    """Begin a call. Where MPI serves one thread only, it is made at once."""
    if not mpi_threads_supported():
        done: Future[Any] = Future()
        try:
            done.set_result(call())
        except Exception as error:  # raised by whoever waits for it
            done.set_exception(error)
        return done
    if not _pool:
        _pool.append(ThreadPoolExecutor(1, "collectives"))
    _pending[:] = [future for future in _pending if not future.done()]
    _pending.append(future := _pool[0].submit(call))
    return future


def settle() -> None:
    """Wait until every call is made: the next one must come after them on all ranks.

    Raises:
        CommunicatorError: the ranks did not make the same calls.
    """
    if _pending and not threading.current_thread().name.startswith("collectives"):
        for future in _pending:
            future.result()
        _pending.clear()

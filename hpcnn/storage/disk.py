"""Writing to places of a file, synced in the background meanwhile."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor

from hpcnn.system.atomic import sync

_SYNC_BYTES, _BACKLOG_BYTES = 64 * 2**20, 256 * 2**20
"""Written bytes after which a sync begins, and bytes that may wait for it."""


def write_at(descriptor: int, data: bytes | memoryview, place: int) -> None:
    """Write all of `data` to a place of a file."""
    left = memoryview(data)
    while left:
        done = os.pwrite(descriptor, left, place)
        left, place = left[done:], place + done


class Disk:
    """Writes to a file, and syncs it in the background during the writing: one fsync at the end would take longer.

    After an error it does nothing more, as without a file; `error` is the first.
    """

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor, self._thread = descriptor, ThreadPoolExecutor(1)
        self._sync: Future[None] | None = None
        self._unsynced = 0
        self.error: OSError | None = None

    def __enter__(self) -> Disk:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def write(self, data: memoryview, place: int) -> None:
        """Write `data` to a place of the file."""
        if self._descriptor is None or self.error is not None:
            return
        try:
            write_at(self._descriptor, data, place)
            self._unsynced += len(data)
            idle = self._sync is None or self._sync.done()
            if self._unsynced >= (_SYNC_BYTES if idle else _BACKLOG_BYTES):
                self._wait()
                self._sync, self._unsynced = self._thread.submit(os.fdatasync, self._descriptor), 0
        except OSError as error:
            self.error = error

    def finish(self, *, synced: bool) -> None:
        """Wait for the syncs that were begun, and sync all that was written if asked for."""
        if self._descriptor is None or self.error is not None:
            return
        try:
            self._wait()
            if synced:
                sync(self._descriptor)
        except OSError as error:
            self.error = error

    def _wait(self) -> None:
        if self._sync is not None:
            self._sync.result()

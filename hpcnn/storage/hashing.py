"""The SHA-256 of a checkpoint's content, computed on threads during reading or writing."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

Data = bytes | bytearray | memoryview

CHUNK = 8 * 2**20
"""Bytes that are read or written, and hashed, at a time; the hash depends on it."""

WEIGHTS = "model/"
"""Prefix of the names of weights."""

_THREADS = 2
_SHORT_BYTES = 2**18
"""Up to this size, a chunk is hashed sooner than a thread is told of it: 0.2 ms, or 1 ms on an older processor."""
_AHEAD = 6
"""The most chunks that wait to be hashed."""


class ContentHash:
    """Hashes the content of a file from start to end: the weights, and everything.

    The weights have one SHA-256, which identifies a result. Each chunk of other content has its own, so that several
    are computed in parallel.
    """

    def __init__(self) -> None:
        self._weights = hashlib.sha256()
        self._digests: list[Future[bytes] | bytes] = []
        self._last: Future[Any] | None = None
        """The last chunk of the weights that was left to the thread."""
        self._pending: deque[Future[Any]] = deque()
        self._sequential, self._parallel = ThreadPoolExecutor(1), ThreadPoolExecutor(_THREADS)

    def __enter__(self) -> ContentHash:
        return self

    def __exit__(self, *_: object) -> None:
        for threads in (self._sequential, self._parallel):
            threads.shutdown(cancel_futures=True)

    def add(self, chunk: Data, *, weights: bool = False) -> None:
        """Add the next chunk of the weights, or of other content; it must not change."""
        short, future = len(chunk) <= _SHORT_BYTES, self._last
        if weights:
            if short and (future is None or future.done()):  # else it would come before its turn
                self._weights.update(chunk)
                return
            future = self._last = self._sequential.submit(self._weights.update, chunk)
        elif short:
            self._digests.append(_digest(chunk))
            return
        else:
            future = self._parallel.submit(_digest, chunk)
            self._digests.append(future)
        self._pending.append(future)
        if len(self._pending) > _AHEAD:
            self._pending.popleft().result()

    def add_array(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
        """Begin an array; return whether it belongs to the weights, whose hash contains its name, type and shape."""
        weights = name.startswith(WEIGHTS)
        if weights:  # as in `hpcnn.nn.params`
            self.add(f"{name.removeprefix(WEIGHTS)} {dtype.name} {shape}\n".encode(), weights=True)
        return weights

    def wait(self) -> None:
        """Wait until all that was added is hashed."""
        while self._pending:
            self._pending.popleft().result()

    def weights(self) -> str:
        """Return the hash of the weights."""
        self.wait()
        return self._weights.hexdigest()

    def content(self, header: bytes) -> str:
        """Return the hash of everything, `header` being the header without hashes."""
        whole = hashlib.sha256(header)
        whole.update(self.weights().encode())
        for digest in self._digests:
            whole.update(digest if isinstance(digest, bytes) else digest.result())
        return whole.hexdigest()


def _digest(chunk: Data) -> bytes:
    return hashlib.sha256(chunk).digest()


def chunks(size: int) -> Iterator[slice]:
    """Return the slices of all chunks of `size` bytes."""
    return (slice(start, min(start + CHUNK, size)) for start in range(0, size, CHUNK))

"""The SHA-256 of a checkpoint's content, computed on threads during reading or writing."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
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
    """Hashes the content of a file: the weights from start to end, and the other chunks that one rank has.

    The weights have one SHA-256, which identifies a result. Each chunk of other content has its own, so that several
    are computed in parallel, by all ranks.
    """

    def __init__(self) -> None:
        self._weights = hashlib.sha256()
        self._digests: dict[int, Future[bytes] | bytes] = {}
        self._last: Future[Any] | None = None
        """The last chunk of the weights that was left to the thread."""
        self._waiting_weights: deque[Future[Any]] = deque()
        self._waiting: deque[Future[Any]] = deque()
        self._sequential, self._parallel = ThreadPoolExecutor(1), ThreadPoolExecutor(_THREADS)

    def __enter__(self) -> ContentHash:
        return self

    def __exit__(self, *_: object) -> None:
        for threads in (self._sequential, self._parallel):
            threads.shutdown(cancel_futures=True)

    def add_weights(self, chunk: Data, *, wait: bool = True) -> None:
        """Add the next chunk of the weights; it must not change. Without `wait`, however many chunks are waiting."""
        future = self._last
        if len(chunk) <= _SHORT_BYTES and (future is None or future.done()):  # else it would come before its turn
            self._weights.update(chunk)
            return
        self._last = self._sequential.submit(self._weights.update, chunk)
        self._waiting_weights.append(self._last)
        if wait and len(self._waiting_weights) > _AHEAD:
            self._waiting_weights.popleft().result()

    def add(self, number: int, chunk: Data) -> None:
        """Add the chunk of that number of the other content; it must not change."""
        if len(chunk) <= _SHORT_BYTES:
            self._digests[number] = _digest(chunk)
            return
        future = self._digests[number] = self._parallel.submit(_digest, chunk)
        self._waiting.append(future)
        if len(self._waiting) > _AHEAD:
            self._waiting.popleft().result()

    def begin_array(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], *, wait: bool = True) -> None:
        """Begin an array of the weights, whose hash contains its name, type and shape."""
        text = f"{name.removeprefix(WEIGHTS)} {dtype.name} {shape}\n"  # as in `hpcnn.nn.params`
        self.add_weights(text.encode(), wait=wait)

    def wait(self, beat: Callable[[], None] = lambda: None) -> None:
        """Wait until all that was added is hashed."""
        for waiting in (self._waiting, self._waiting_weights):
            while waiting:
                waiting.popleft().result()
                beat()

    def weights(self) -> str:
        """Return the hash of the weights."""
        self.wait()
        return self._weights.hexdigest()

    def digests(self) -> dict[int, bytes]:
        """Return the digests of the other chunks by number."""
        return {
            number: digest if isinstance(digest, bytes) else digest.result() for number, digest in self._digests.items()
        }


def content_sha256(header: bytes, weights: str, digests: Mapping[int, bytes]) -> str:
    """Return the hash of everything, of the header without hashes, that of the weights, and those of all chunks."""
    whole = hashlib.sha256(header)
    whole.update(weights.encode())
    for number in range(len(digests)):
        whole.update(digests[number])
    return whole.hexdigest()


def _digest(chunk: Data) -> bytes:
    return hashlib.sha256(chunk).digest()


def chunks(size: int) -> Iterator[slice]:
    """Return the slices of all chunks of `size` bytes."""
    return (slice(start, min(start + CHUNK, size)) for start in range(0, size, CHUNK))

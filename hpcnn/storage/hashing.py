"""The SHA-256 of a checkpoint's content, computed on threads beside the reading or writing."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

import numpy as np

Data = bytes | bytearray | memoryview

CHUNK = 8 * 2**20
"""Bytes that are read or written, and hashed, at a time: part of what defines the hash."""

WEIGHTS = "model/"
"""How the names of weights begin."""

_THREADS = 2
_AHEAD = 6
"""Chunks that wait to be hashed, at most."""


def weights_line(name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """Return what is hashed before the content of a parameter, as `hpcnn.nn.params` does."""
    return f"{name.removeprefix(WEIGHTS)} {dtype.name} {shape}\n".encode()


class ContentHash:
    """Takes the content of a file from its start to its end, and gives the hashes of weights and of everything.

    The weights go through one SHA-256 from start to end: the one that names a result. Of everything else, each
    chunk has its own, so that several are computed at once.
    """

    def __init__(self) -> None:
        self._weights = hashlib.sha256()
        self._digests: list[Future[bytes]] = []
        self._under_way: deque[Future[Any]] = deque()
        self._in_order, self._at_once = ThreadPoolExecutor(1), ThreadPoolExecutor(_THREADS)

    def __enter__(self) -> ContentHash:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for threads in (self._in_order, self._at_once):
            threads.shutdown(cancel_futures=True)

    def add_weights(self, data: Data) -> None:
        """Take the next bytes of the weights, which must stay as they are."""
        self._follow(self._in_order.submit(self._weights.update, data))

    def add(self, chunk: Data) -> None:
        """Take the next chunk of other content, which must stay as it is."""
        digest = self._at_once.submit(_digest, chunk)
        self._digests.append(digest)
        self._follow(digest)

    def settle(self) -> None:
        """Return once nothing that was taken is needed any more."""
        while self._under_way:
            self._under_way.popleft().result()

    def weights(self) -> str:
        """Return the hash of the weights."""
        self.settle()
        return self._weights.hexdigest()

    def content(self, header: bytes) -> str:
        """Return the hash of everything, with `header` as it is without hashes."""
        whole = hashlib.sha256(header)
        whole.update(self.weights().encode())
        for digest in self._digests:
            whole.update(digest.result())
        return whole.hexdigest()

    def _follow(self, future: Future[Any]) -> None:
        self._under_way.append(future)
        if len(self._under_way) > _AHEAD:
            self._under_way.popleft().result()


def chunks(size: int) -> Iterator[slice]:
    """Return the chunks of so many bytes."""
    return (slice(start, min(start + CHUNK, size)) for start in range(0, size, CHUNK))


def _digest(data: Data) -> bytes:
    return hashlib.sha256(data).digest()

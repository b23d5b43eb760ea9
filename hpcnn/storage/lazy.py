"""Arrays of a checkpoint, whose entries may be on other ranks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcnn.core.dealing import Chunk, Dealing
from hpcnn.storage import hashing

Array = NDArray[Any]


@dataclass(frozen=True)
class LazyArray:
    """An array of known type and shape, on every rank or spread over all of them. It does not change meanwhile."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    array: Array | None = None
    """Its entries, where every rank has them."""
    deal: Callable[[Dealing], Iterator[Chunk]] | None = None
    """Otherwise, yields the chunks that this rank takes. Collective: all ranks call it for the same arrays in order."""

    @classmethod
    def of(cls, array: Array) -> LazyArray:
        """Wrap an array that every rank has."""
        return cls(array.dtype, array.shape, array)

    @property
    def size_bytes(self) -> int:
        """Bytes of its content."""
        return math.prod(self.shape) * self.dtype.itemsize

    def chunks(self, *, margin_bytes: int = 0, shared: bool = False, kept: float = 1.0) -> Iterator[Chunk]:
        """Yield what this rank takes of a spread array, in chunks as they are hashed; see `Dealing`. Collective."""
        assert self.deal is not None
        size = self.dtype.itemsize
        return self.deal(Dealing(hashing.CHUNK // size, margin_bytes // size, shared, kept))

    def whole(self) -> Array | None:
        """Return a copy of the array; None of a spread one on other ranks than 0. Collective."""
        if self.array is not None:
            return self.array.copy()
        found = None
        for chunk in self.chunks():
            if found is None:
                found = np.empty(math.prod(self.shape), self.dtype)
            start = chunk.number * (hashing.CHUNK // self.dtype.itemsize)
            found[start : start + chunk.entries.size] = chunk.entries
        return None if found is None else found.reshape(self.shape)

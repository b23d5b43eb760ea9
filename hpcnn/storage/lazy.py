"""Arrays of a checkpoint that are not gathered yet."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class LazyArray:
    """An array of known type and shape whose entries may be on other ranks, and are copied only when needed."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    blocks: Callable[[], Iterator[Array | None]]
    """Yields its entries in order, in one or more arrays, on rank 0; None or the same elsewhere.

    All but the last have a whole number of chunks (`hpcnn.storage.hashing.CHUNK`). They do not change before the
    training continues. Collective: all ranks take all blocks of the same arrays in the same order.
    """

    @classmethod
    def of(cls, array: Array) -> LazyArray:
        """Wrap an array that every rank has."""
        return cls(array.dtype, array.shape, lambda: iter([array]))

    @property
    def size_bytes(self) -> int:
        """Bytes of its content."""
        return math.prod(self.shape) * self.dtype.itemsize

    def whole(self) -> Array | None:
        """Return a copy of the array on rank 0; None or the same elsewhere. Collective."""
        blocks = [block for block in self.blocks() if block is not None]
        if len(blocks) == 1:
            return blocks[0].reshape(self.shape).copy()
        return np.concatenate([block.reshape(-1) for block in blocks]).reshape(self.shape) if blocks else None

"""Arrays that a checkpoint keeps, before anybody has brought them together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class LazyArray:
    """An array of known type and shape, which lies on other ranks, or is not to be copied before it is needed."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    blocks: Callable[[], Iterator[Array | None]]
    """Gives its entries in order, as one array or more, on rank 0; None or the same elsewhere.

    All but the last have a whole number of chunks (`hpcnn.storage.hashing.CHUNK`); all stay as they are until the
    training goes on. Collective: all ranks take all blocks of the same arrays in the same order.
    """

    @classmethod
    def of(cls, array: Array) -> LazyArray:
        """Return what stands for an array that every rank has."""
        return cls(array.dtype, array.shape, lambda: iter([array]))

    @property
    def size_bytes(self) -> int:
        """Bytes of its content."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize

    def whole(self) -> Array | None:
        """Return a copy of it on rank 0; None or the same elsewhere. Collective."""
        blocks = [block.reshape(-1) for block in self.blocks() if block is not None]
        return np.concatenate(blocks).reshape(self.shape) if blocks else None

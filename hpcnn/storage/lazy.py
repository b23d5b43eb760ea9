"""Arrays that a checkpoint keeps, before anybody has brought them together."""

from __future__ import annotations

from collections.abc import Callable
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
    fetch: Callable[[], Array | None]
    """Returns it on rank 0, and None or the same array elsewhere; valid until the training goes on.

    Collective: all ranks fetch the same arrays in the same order.
    """

    @classmethod
    def of(cls, array: Array) -> LazyArray:
        """Return what fetches an array that every rank has."""
        return cls(array.dtype, array.shape, lambda: array)

    @property
    def size_bytes(self) -> int:
        """Bytes of its content."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize

"""Memory and random numbers that a pass through layers works with, and products of matrices."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hpcnn.nn.matmul import Matmul
from hpcnn.system.memory import aligned_empty

Array = NDArray[Any]


class Workspace(threading.local):
    """Scratch memory and random numbers: of its own in each thread that uses the workspace.

    Scratch is kept from step to step, so that a steady-state step allocates nothing large; a buffer that has to hold
    more rows than before grows. `matmul` multiplies matrices.
    """

    def __init__(self, matmul: Matmul = np.matmul) -> None:
        self.matmul = matmul
        self._random_key: tuple[int, ...] = (0,)
        self._generator: np.random.Generator | None = None
        self._buffers: dict[tuple[object, str], Array] = {}
        self._ones: dict[np.dtype[Any], Array] = {}

    @property
    def random_key(self) -> tuple[int, ...]:
        """The key that the last pass began with."""
        return self._random_key

    @property
    def random(self) -> np.random.Generator:
        """The generator of this pass, made when first asked for (most networks draw nothing)."""
        if self._generator is None:
            self._generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(self._random_key)))
        return self._generator

    @property
    def nbytes(self) -> int:
        """Bytes of all scratch so far."""
        return sum(buffer.nbytes for buffer in (*self._buffers.values(), *self._ones.values()))

    def scratch(self, owner: object, use: str, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """Return an uninitialised array of `shape`, the same memory each time for one (`owner`, `use`, row shape).

        `owner` is the layer's name (unique in a network). The content is valid until the owner's next pass.
        """
        key = (owner, use)
        buffer = self._buffers.get(key)
        if buffer is not None and buffer.dtype == dtype:
            if buffer.shape == shape:
                return buffer
            if buffer.shape[0] > shape[0] and buffer.shape[1:] == shape[1:]:
                return buffer[: shape[0]]
        buffer = self._buffers[key] = aligned_empty(shape, dtype)
        return buffer

    def ones(self, n: int, dtype: np.dtype[Any]) -> Array:
        """Return `n` ones, shape (n,), the same memory each time: not to be written to."""
        ones = self._ones.get(dtype)
        if ones is None or len(ones) < n:
            ones = self._ones[dtype] = aligned_empty((n,), dtype)
            ones.fill(1)
            ones.flags.writeable = False
        return ones[:n]

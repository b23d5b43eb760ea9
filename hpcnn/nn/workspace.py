"""Memory and random numbers that a pass through layers works with, and products of matrices."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hpcnn.nn.matmul import Matmul
from hpcnn.system.memory import ALIGNMENT, aligned_empty, kept_empty

Array = NDArray[Any]


class Arena:
    """Memory for the scratch of parts of a pass that follow each other: what one part took, the next may take again."""

    CHUNK = 1 << 20
    """Bytes that are asked for at once, at least."""

    def __init__(self) -> None:
        self._chunks: list[Array] = []
        self._taken: dict[tuple[object, str], Array] = {}
        self._chunk = self._offset = self._used = 0
        self.most = 0
        """Bytes of the part that took most so far."""

    def reset(self) -> None:
        """Begin a new part."""
        self._taken.clear()
        self._used = 0
        self._chunk = self._offset = 0

    def take(self, key: tuple[object, str], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return memory: within a part, the same for one key and shape."""
        taken = self._taken.get(key)
        if taken is None or taken.shape != shape or taken.dtype != dtype:
            size = math.prod(shape) * dtype.itemsize
            taken = self._taken[key] = self._bytes(size).view(dtype).reshape(shape)
        return taken

    def _bytes(self, size: int) -> Array:
        while self._chunk < len(self._chunks) and self._offset + size > self._chunks[self._chunk].size:
            self._chunk, self._offset = self._chunk + 1, 0
        if self._chunk == len(self._chunks):
            self._chunks.append(kept_empty(max(size, self.CHUNK), np.uint8))
        self._used += size
        self.most = max(self.most, self._used)
        start, self._offset = self._offset, self._offset + -(-size // ALIGNMENT) * ALIGNMENT
        return self._chunks[self._chunk][start : start + size]


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
        self._reused = Arena()
        self._arena: Arena | None = None
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
    def random_state(self) -> Any:
        """The state of the generator; None: it has not been made yet."""
        return None if self._generator is None else self._generator.bit_generator.state

    @random_state.setter
    def random_state(self, state: Any) -> None:
        self._generator = None
        if state is not None:
            self.random.bit_generator.state = state

    @property
    def nbytes(self) -> int:
        """Bytes of all scratch so far."""
        own = sum(buffer.nbytes for buffer in (*self._buffers.values(), *self._ones.values()))
        return own + self._reused.most

    def scratch(self, owner: object, use: str, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """Return an uninitialised array of `shape`, the same memory each time for one (`owner`, `use`, row shape).

        `owner` is the layer's name (unique in a network). The content is valid until the owner's next pass.
        """
        key = (owner, use)
        if self._arena is not None:
            return self._arena.take(key, shape, np.dtype(dtype))
        buffer = self._buffers.get(key)
        if buffer is not None and buffer.dtype == dtype:
            if buffer.shape == shape:
                return buffer
            if buffer.shape[0] > shape[0] and buffer.shape[1:] == shape[1:]:
                return buffer[: shape[0]]
        buffer = self._buffers[key] = kept_empty(shape, dtype)
        return buffer

    def reuse_memory(self, *, anew: bool = True) -> None:
        """Let scratch from here on lie where that of earlier such parts of a pass lay, up to `keep_memory`.

        Not `anew`: go on with the part that was begun last.
        """
        self._arena = self._reused
        if anew:
            self._reused.reset()

    def keep_memory(self) -> None:
        """Let scratch lie in memory of its own again."""
        self._arena = None

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Give scratch of its own memory within the context, whatever is reused around it."""
        arena, self._arena = self._arena, None
        try:
            yield
        finally:
            self._arena = arena

    def ones(self, n: int, dtype: np.dtype[Any]) -> Array:
        """Return `n` ones, shape (n,), the same memory each time: not to be written to."""
        ones = self._ones.get(dtype)
        if ones is None or len(ones) < n:
            ones = self._ones[dtype] = aligned_empty((n,), dtype)
            ones.fill(1)
            ones.flags.writeable = False
        return ones[:n]

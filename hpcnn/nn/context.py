"""What one pass through a network needs beside its input: scratch memory, random numbers and matrix products."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hpcnn.nn.matmul import Matmul
from hpcnn.system.memory import aligned_empty

Array = NDArray[Any]
NO_STATE: Mapping[str, Array] = MappingProxyType({})


class Context(threading.local):
    """Scratch memory, random numbers and the mode of one pass: of its own in each thread that uses the context.

    One context serves one replica for its whole life. Scratch is kept from step to step, so that a steady-state
    step allocates nothing large; a buffer that has to hold more rows than before grows. `matmul` multiplies matrices.
    Threads may share a context: each begins with what the constructor was given.
    """

    def __init__(self, *, training: bool = False, matmul: Matmul = np.matmul) -> None:
        self.training, self.matmul = training, matmul
        self.new_state = NO_STATE
        """Where a layer in training writes what this piece makes of each parameter that is state, under its full name.

        Arrays of float64 in the parameters' shapes. The parameters then get the mean over all samples of the batch.
        """
        self._random_key: tuple[int, ...] = (0,)
        self._generator: np.random.Generator | None = None
        self._buffers: dict[tuple[object, str], Array] = {}
        self._ones: dict[np.dtype[Any], Array] = {}

    def begin(
        self, *, training: bool, random_key: tuple[int, ...] = (0,), new_state: Mapping[str, Array] = NO_STATE
    ) -> None:
        """Start a pass over one piece of a batch. `random_key` alone decides every random number drawn in it."""
        self.training, self.new_state = training, new_state
        self._random_key = random_key
        self._generator = None

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

"""Where initialisers take random numbers from: NumPy's generators, or the compiled core."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from hpcnn.nn.workspace import Array

INIT_STREAM, DROPOUT_STREAM = 1, 4
"""Keep the draws of initialisers and of layers apart from all other uses of the job's seed."""


def stream_of(use: int, number: int) -> int:
    """Return a stream of the core for one use of a seed: `number` counts parameters, or layers that draw."""
    return use + 256 * number


class Draws(Protocol):
    """Random arrays of float64."""

    def uniform(self, limit: float, shape: tuple[int, ...]) -> Array:
        """Return numbers in [-limit, limit)."""

    def truncated_normal(self, shape: tuple[int, ...]) -> Array:
        """Return standard normal numbers, given that they are within [-2, 2]."""

    def orthonormal(self, rows: int, columns: int) -> Array:
        """Return a random matrix with orthonormal columns, no more than rows: all are equally likely."""


class NumpyDraws:
    """Draws from a generator of NumPy."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator

    def uniform(self, limit: float, shape: tuple[int, ...]) -> Array:
        """See `Draws`."""
        return self._generator.uniform(-limit, limit, shape)

    def truncated_normal(self, shape: tuple[int, ...]) -> Array:
        """Draw again what is beyond the bounds."""
        values = self._generator.standard_normal(shape)
        while (far := np.abs(values) > 2).any():
            values[far] = self._generator.standard_normal(np.count_nonzero(far))
        return values

    def orthonormal(self, rows: int, columns: int) -> Array:
        """Factor a normal matrix. The signs matter: without them not all are equally likely (Mezzadri, 2007)."""
        q, r = np.linalg.qr(self._generator.standard_normal((rows, columns)))
        return np.asarray(q * np.where(np.diag(r) < 0, -1.0, 1.0))


class CoreDraws:
    """Draws from a stream of the compiled core: the same bits with any NumPy, LAPACK and processor."""

    def __init__(self, seed: int, stream: int) -> None:
        self._key = seed, stream, 0

    def uniform(self, limit: float, shape: tuple[int, ...]) -> Array:
        """See `Draws`."""
        from hpcnn.kernels import core

        values = np.empty(shape)
        core.uniform(*self._key, values)
        np.multiply(values, 2 * limit, out=values)
        return np.subtract(values, limit, out=values)

    def truncated_normal(self, shape: tuple[int, ...]) -> Array:
        """See `Draws`."""
        from hpcnn.kernels import core

        values = np.empty(shape)
        core.truncated_normal(*self._key, values)
        return values

    def orthonormal(self, rows: int, columns: int) -> Array:
        """Factor a normal matrix."""
        from hpcnn.kernels import core

        values = np.empty((rows, columns))
        core.normal(*self._key, values)
        core.orthogonal(values)
        return values

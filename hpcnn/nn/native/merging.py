"""Several inputs, entry by entry."""

from __future__ import annotations

from hpcnn.nn.native.base import NativeBase
from hpcnn.nn.workspace import Array

_MULTIPLY, _MAXIMUM = 0, 1
"""Numbers of the combinations in the core."""


class NativeMerging(NativeBase):
    """See `Arithmetic`."""

    def multiply(self, x1: Array, x2: Array, out: Array) -> Array:
        """Multiply."""
        self._do.combine(_MULTIPLY, self._plain(x1, out.dtype), self._plain(x2, out.dtype), out)
        return out

    def maximum(self, x1: Array, x2: Array, out: Array) -> Array:
        """Take the larger."""
        self._do.combine(_MAXIMUM, self._plain(x1, out.dtype), self._plain(x2, out.dtype), out)
        return out

    def maximum_backward(self, x1: Array, x2: Array, dy: Array, dx1: Array | None, dx2: Array | None) -> None:
        """Compare again."""
        x1, x2 = self._plain(x1, dy.dtype), self._plain(x2, dy.dtype)
        self._do.maximum_backward(x1, x2, self._plain(dy, dy.dtype), dx1, dx2)

    def scaled(self, x: Array, factor: float, out: Array) -> Array:
        """Multiply by one number."""
        self._do.scaled(self._plain(x, out.dtype), factor, out)
        return out

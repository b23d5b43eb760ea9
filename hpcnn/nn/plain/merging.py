"""Several inputs, entry by entry."""

from __future__ import annotations

import numpy as np

from hpcnn.nn.workspace import Array


class PlainMerging:
    """See `Arithmetic`."""

    def multiply(self, x1: Array, x2: Array, out: Array) -> Array:
        """Multiply."""
        return np.multiply(x1, x2, out=out)

    def maximum(self, x1: Array, x2: Array, out: Array) -> Array:
        """Take the larger."""
        return np.maximum(x1, x2, out=out)

    def maximum_backward(self, x1: Array, x2: Array, dy: Array, dx1: Array | None, dx2: Array | None) -> None:
        """Multiply by 0 and 1."""
        if dx1 is not None:
            np.multiply(dy, np.greater_equal(x1, x2, out=dx1), out=dx1)
        if dx2 is not None:
            np.multiply(dy, np.less(x1, x2, out=dx2), out=dx2)

    def scaled(self, x: Array, factor: float, out: Array) -> Array:
        """Multiply by one number."""
        return np.multiply(x, factor, out=out)

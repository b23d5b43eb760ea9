"""Random draws from the generator of the pass."""

from __future__ import annotations

from typing import Any

import numpy as np

from hpcnn.nn.arithmetic import Pull
from hpcnn.nn.workspace import Array, Workspace


class PlainNoise:
    """See `Arithmetic`."""

    def draws(self, ctx: Workspace) -> Any:
        """Return the state of the generator, None before it is used."""
        return ctx.random_state

    def draw_from(self, ctx: Workspace, draws: Any) -> None:
        """Give the generator that state."""
        ctx.random_state = draws

    def dropout(self, ctx: Workspace, owner: object, x: Array, rate: float) -> tuple[Array, Pull]:
        """Draw from the generator of the pass."""
        factor = ctx.scratch(owner, "factor", x.shape, x.dtype)
        ctx.random.random(out=factor, dtype=x.dtype.type)
        np.subtract(factor, rate, out=factor)
        np.ceil(factor, out=factor)  # 1 where the draw is above the rate, else 0; needs no array of booleans
        np.multiply(factor, 1 / (1 - rate), out=factor)
        y = np.multiply(x, factor, out=ctx.scratch(owner, "y", x.shape, x.dtype))
        return y, lambda dy: np.multiply(dy, factor, out=dy)

    def spatial_dropout(self, ctx: Workspace, owner: object, x: Array, rate: float) -> tuple[Array, Pull]:
        """Draw once for each channel of a sample."""
        factor = ctx.scratch(owner, "factor", (len(x), *(1 for _ in x.shape[1:-1]), x.shape[-1]), x.dtype)
        ctx.random.random(out=factor, dtype=x.dtype.type)
        np.subtract(factor, rate, out=factor)
        np.ceil(factor, out=factor)
        np.multiply(factor, 1 / (1 - rate), out=factor)
        y = np.multiply(x, factor, out=ctx.scratch(owner, "y", x.shape, x.dtype))
        return y, lambda dy: np.multiply(dy, factor, out=dy)

    def gaussian_noise(self, ctx: Workspace, owner: object, x: Array, stddev: float) -> Array:
        """Draw from the generator of the pass."""
        y = ctx.scratch(owner, "y", x.shape, x.dtype)
        ctx.random.standard_normal(out=y, dtype=x.dtype.type)
        np.multiply(y, stddev, out=y)
        return np.add(x, y, out=y)

"""Rectifiers whose slope is learnt or given."""

from __future__ import annotations

import numpy as np

from hpcnn.nn.arithmetic import Grad, PreluBackward, Pull
from hpcnn.nn.workspace import Array, Workspace


class PlainRectifiers:
    """See `Arithmetic`."""

    def prelu(self, ctx: Workspace, owner: object, x: Array, alpha: Array) -> tuple[Array, PreluBackward]:
        """Let NumPy repeat alpha along the axes that share it."""
        y = _rectified(ctx, owner, x, alpha)
        shared = [axis for axis, (one, many) in enumerate(zip(alpha.shape, x.shape[1:], strict=True), 1) if one != many]

        def backward(dy: Array, alpha_grad: Grad, /, *, need_dx: bool) -> Array | None:
            work = ctx.scratch(owner, "work", x.shape, x.dtype)
            if alpha_grad is not None:
                np.minimum(x, 0, out=work)
                np.multiply(work, dy, out=work)
                np.add.reduce(work, axis=(0, *shared), keepdims=True, out=alpha_grad[None])
            return _times_slope(x, np.less(x, 0, out=work), alpha, dy, ctx, owner) if need_dx else None

        return y, backward

    def leaky_relu(self, ctx: Workspace, owner: object, x: Array, slope: float) -> tuple[Array, Pull]:
        """Take one slope for all."""
        alpha, work = np.full((), slope, x.dtype), ctx.scratch(owner, "work", x.shape, x.dtype)
        y = _rectified(ctx, owner, x, alpha)
        return y, lambda dy: _times_slope(x, np.less_equal(x, 0, out=work), alpha, dy, ctx, owner)


def _rectified(ctx: Workspace, owner: object, x: Array, alpha: Array) -> Array:
    """Return max(x, 0) + alpha min(x, 0)."""
    y = np.minimum(x, 0, out=ctx.scratch(owner, "y", x.shape, x.dtype))
    np.multiply(y, alpha, out=y)
    return np.add(y, np.maximum(x, 0, out=ctx.scratch(owner, "positive", x.shape, x.dtype)), out=y)


def _times_slope(x: Array, sloped: Array, alpha: Array, dy: Array, ctx: Workspace, owner: object) -> Array:
    """Return dy times alpha where `sloped` is 1, times 1 where x > 0, times 0 elsewhere, in the memory of dy."""
    np.multiply(sloped, alpha, out=sloped)
    positive = np.greater(x, 0, out=ctx.scratch(owner, "positive", x.shape, x.dtype))
    return np.multiply(dy, np.add(sloped, positive, out=sloped), out=dy)

"""Rectifiers whose slope is learnt or given."""

from __future__ import annotations

import math

import numpy as np

from hpcnn.nn.arithmetic import Grad, PreluBackward, Pull
from hpcnn.nn.axis_maps import AxisMaps, repeated
from hpcnn.nn.native.base import real_type, sums
from hpcnn.nn.native.shapes import NativeShapes
from hpcnn.nn.workspace import Array, Workspace


class NativeRectifiers(NativeShapes):
    """See `Arithmetic`."""

    def prelu(self, ctx: Workspace, owner: object, x: Array, alpha: Array) -> tuple[Array, PreluBackward]:
        """Repeat alpha where an axis within it is shared; rows need no copy of it."""
        x = self._plain(x, alpha.dtype)
        own = _own_axes(alpha.shape, x.shape[1:])
        spread: AxisMaps = []
        if own is None:
            pairs = zip(alpha.shape, x.shape[1:], strict=True)
            spread = [(axis, repeated(1, many)) for axis, (one, many) in enumerate(pairs, 1) if one != many]
        slopes = self._mapped(ctx, owner, "alpha", alpha[None], spread) if spread else alpha
        y = ctx.scratch(owner, "y", x.shape, x.dtype)
        self._do.prelu(x, slopes, y)

        def backward(dy: Array, alpha_grad: Grad, /, *, need_dx: bool) -> Array | None:
            dy = self._own(dy, x.dtype)
            share = None if alpha_grad is None else ctx.scratch(owner, "share", x.shape, x.dtype)
            self._do.prelu_backward(x, slopes, dy, dy if need_dx else None, share, False)
            if share is not None:
                back = [(axis, each.transposed) for axis, each in spread]
                within = self._mapped(ctx, owner, "sum", share, back)
                rows = len(x) * math.prod(x.shape[1 : 1 + (own or 0)])
                self._do.column_sums(self._shards_of(rows), within.reshape(rows, alpha.size), None, sums(alpha_grad))
            return dy if need_dx else None

        return y, backward

    def leaky_relu(self, ctx: Workspace, owner: object, x: Array, slope: float) -> tuple[Array, Pull]:
        """Take one slope for all."""
        x = self._plain(x, real_type(x))
        y, alpha = ctx.scratch(owner, "y", x.shape, x.dtype), np.full(1, slope, x.dtype)
        self._do.prelu(x, alpha, y)

        def pull(dy: Array) -> Array:
            dy = self._own(dy, x.dtype)
            self._do.prelu_backward(x, alpha, dy, dy, None, True)
            return dy

        return y, pull


def _own_axes(alpha: tuple[int, ...], sample: tuple[int, ...]) -> int | None:
    """Return how many axes lead that all share alpha, if it has all of the others; None if it has not."""
    leading = 0
    while leading < len(alpha) and alpha[leading:] != sample[leading:]:
        if alpha[leading] != 1:
            return None
        leading += 1
    return leading

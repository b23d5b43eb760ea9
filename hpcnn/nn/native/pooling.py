"""Pooling."""

from __future__ import annotations

import numpy as np

from hpcnn.nn.arithmetic import Pull
from hpcnn.nn.native.base import NativeBase, real_type
from hpcnn.nn.pool_windows import Windows
from hpcnn.nn.workspace import Array, Workspace


class NativePooling(NativeBase):
    """See `Arithmetic`."""

    def max_pooling(self, ctx: Workspace, owner: object, x: Array, windows: Windows) -> tuple[Array, Pull]:
        """Note the place of each largest entry for the pass back."""
        x = self._plain(x, real_type(x))
        y = ctx.scratch(owner, "y", (len(x), *windows.outputs, x.shape[-1]), x.dtype)
        place = ctx.scratch(owner, "place", y.shape, np.int32)
        geometry = windows.size, windows.step, windows.before
        self._do.max_pooling(x, y, place, *geometry)

        def pull(dy: Array) -> Array:
            dx = ctx.scratch(owner, "dx", x.shape, x.dtype)
            self._do.max_pooling_backward(place, self._plain(dy, x.dtype), dx, *geometry)
            return dx

        return y, pull

    def average_pooling(self, ctx: Workspace, owner: object, x: Array, windows: Windows) -> tuple[Array, Pull]:
        """Add in double."""
        x = self._plain(x, real_type(x))
        y = ctx.scratch(owner, "y", (len(x), *windows.outputs, x.shape[-1]), x.dtype)
        geometry = windows.size, windows.step, windows.before
        self._do.average_pooling(x, y, *geometry)

        def pull(dy: Array) -> Array:
            dx = ctx.scratch(owner, "dx", x.shape, x.dtype)
            self._do.average_pooling_backward(self._plain(dy, x.dtype), dx, *geometry)
            return dx

        return y, pull

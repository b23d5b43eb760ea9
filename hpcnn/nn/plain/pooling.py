"""Pooling: one entry of all windows after the other, as a view of the inputs."""

from __future__ import annotations

import numpy as np

from hpcnn.nn.arithmetic import Pull
from hpcnn.nn.pool_windows import Windows
from hpcnn.nn.workspace import Array, Workspace


class PlainPooling:
    """See `Arithmetic`."""

    def max_pooling(self, ctx: Workspace, owner: object, x: Array, windows: Windows) -> tuple[Array, Pull]:
        """Compare."""
        y = ctx.scratch(owner, "y", (len(x), *windows.outputs, x.shape[-1]), x.dtype)
        y.fill(-np.inf)
        for outputs, inputs in windows.taps():
            np.maximum(y[outputs], x[inputs], out=y[outputs])

        def pull(dy: Array) -> Array:
            dx = ctx.scratch(owner, "dx", x.shape, x.dtype)
            dx.fill(0)
            left = ctx.scratch(owner, "left", y.shape, bool)  # windows whose largest entry is yet to come
            here = ctx.scratch(owner, "here", y.shape, bool)
            term = ctx.scratch(owner, "term", y.shape, x.dtype)
            left.fill(True)
            for outputs, inputs in windows.taps():
                np.equal(x[inputs], y[outputs], out=here[outputs])
                np.logical_and(here[outputs], left[outputs], out=here[outputs])
                np.logical_xor(left[outputs], here[outputs], out=left[outputs])
                np.multiply(dy[outputs], here[outputs], out=term[outputs])
                np.add(dx[inputs], term[outputs], out=dx[inputs])
            return dx

        return y, pull

    def average_pooling(self, ctx: Workspace, owner: object, x: Array, windows: Windows) -> tuple[Array, Pull]:
        """Add, then divide by the number of entries."""
        y = ctx.scratch(owner, "y", (len(x), *windows.outputs, x.shape[-1]), x.dtype)
        shares = windows.shares.astype(x.dtype, copy=False)
        y.fill(0)
        for outputs, inputs in windows.taps():
            np.add(y[outputs], x[inputs], out=y[outputs])
        np.multiply(y, shares, out=y)

        def pull(dy: Array) -> Array:
            dx = ctx.scratch(owner, "dx", x.shape, x.dtype)
            dx.fill(0)
            np.multiply(dy, shares, out=dy)
            for outputs, inputs in windows.taps():
                np.add(dx[inputs], dy[outputs], out=dx[inputs])
            return dx

        return y, pull

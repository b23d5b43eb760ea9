"""Maps along axes, axes that change places, parts that are joined."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpcnn.nn.arithmetic import Pull
from hpcnn.nn.axis_maps import AxisMap, AxisMaps
from hpcnn.nn.workspace import Array, Workspace


class PlainShapes:
    """See `Arithmetic`."""

    def map_axes(self, ctx: Workspace, owner: object, x: Array, maps: AxisMaps) -> tuple[Array, Pull]:
        """Map one axis after the other."""
        back = [(axis, each.transposed) for axis, each in reversed(maps)]
        return _mapped(ctx, owner, "y", x, maps), lambda dy: _mapped(ctx, owner, "dx", dy, back)

    def permute(self, ctx: Workspace, owner: object, x: Array, axes: Sequence[int]) -> tuple[Array, Pull]:
        """Copy a view."""
        y = ctx.scratch(owner, "y", tuple(x.shape[axis] for axis in axes), x.dtype)
        np.copyto(y, x.transpose(axes))

        def pull(dy: Array) -> Array:
            dx = ctx.scratch(owner, "dx", x.shape, x.dtype)
            np.copyto(dx.transpose(axes), dy)
            return dx

        return y, pull

    def put(self, x: Array, axis: int, start: int, out: Array) -> Array:
        """Copy into a view."""
        np.copyto(out[_places(axis, start, x.shape[axis])], x)
        return out

    def part(self, x: Array, axis: int, start: int, out: Array) -> Array:
        """Copy a view."""
        np.copyto(out, x[_places(axis, start, out.shape[axis])])
        return out


def _places(axis: int, start: int, length: int) -> tuple[slice, ...]:
    return (*(slice(None),) * axis, slice(start, start + length))


def _mapped(ctx: Workspace, owner: object, use: str, x: Array, maps: AxisMaps) -> Array:
    for number, (axis, each) in enumerate(maps):
        x = _mapped_along(ctx, owner, f"{use}/{number}", x, axis, each)
    return x


def _mapped_along(ctx: Workspace, owner: object, use: str, x: Array, axis: int, axis_map: AxisMap) -> Array:
    """Add the first terms of all rows, the second ones, and so on."""
    shape = (*x.shape[:axis], axis_map.rows, *x.shape[axis + 1 :])
    y, term = ctx.scratch(owner, use, shape, x.dtype), ctx.scratch(owner, f"{use}/term", shape, x.dtype)
    y.fill(0)
    for index, weight, missing in axis_map.ranks:
        np.take(x, index, axis=axis, out=term, mode="clip")  # any other mode would copy `term`
        if (weight != 1).any():
            np.multiply(term, weight.astype(x.dtype).reshape(-1, *(1 for _ in shape[axis + 1 :])), out=term)
        if missing.size:
            np.moveaxis(term, axis, 0)[missing] = 0
        np.add(y, term, out=y)
    return y

"""Maps along axes, axes that change places, parts that are joined."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hpcnn.nn.arithmetic import Pull
from hpcnn.nn.axis_maps import AxisMap, AxisMaps, shifted
from hpcnn.nn.native.base import NativeBase, real_type
from hpcnn.nn.workspace import Array, Workspace


class NativeShapes(NativeBase):
    """See `Arithmetic`."""

    def map_axes(self, ctx: Workspace, owner: object, x: Array, maps: AxisMaps) -> tuple[Array, Pull]:
        """Map one axis after the other."""
        x = self._plain(x, real_type(x))
        back = [(axis, each.transposed) for axis, each in reversed(maps)]
        return (
            self._mapped(ctx, owner, "y", x, maps),
            lambda dy: self._mapped(ctx, owner, "dx", self._plain(dy, x.dtype), back),
        )

    def permute(self, ctx: Workspace, owner: object, x: Array, axes: Sequence[int]) -> tuple[Array, Pull]:
        """Copy by the strides of a view."""
        x = self._plain(x, real_type(x))
        moved = x.transpose(axes)
        y = ctx.scratch(owner, "y", moved.shape, x.dtype)
        self._do.permute(moved, y)

        def pull(dy: Array) -> Array:
            dx = ctx.scratch(owner, "dx", x.shape, x.dtype)
            self._do.permute(self._plain(dy, x.dtype).transpose(np.argsort(axes)), dx)
            return dx

        return y, pull

    def put(self, x: Array, axis: int, start: int, out: Array) -> Array:
        """Copy x into a part of the rows of `out`."""
        x = self._plain(x, out.dtype)
        self._copy_runs(_runs(x, axis), _runs(out, axis, start, x.shape[axis]))
        return out

    def part(self, x: Array, axis: int, start: int, out: Array) -> Array:
        """Copy a part of the rows of x."""
        self._copy_runs(_runs(self._plain(x, out.dtype), axis, start, out.shape[axis]), _runs(out, axis))
        return out

    def _copy_runs(self, x: Array, y: Array) -> None:
        self._map(x, y, shifted(1, 0, 0))

    def _mapped(self, ctx: Workspace, owner: object, use: str, x: Array, maps: AxisMaps) -> Array:
        for number, (axis, each) in enumerate(maps):
            shape = (*x.shape[:axis], each.rows, *x.shape[axis + 1 :])
            y = ctx.scratch(owner, f"{use}/{number}", shape, x.dtype)
            self._map(_three(x, axis), _three(y, axis), each)
            x = y
        return x

    def _map(self, x: Array, y: Array, axis_map: AxisMap) -> None:
        self._do.map_axis(x, y, axis_map.start, axis_map.index, axis_map.weights(y.dtype))


def _three(x: Array, axis: int) -> Array:
    """Return x as (outer, the axis, inner)."""
    return x.reshape(math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :]))


def _runs(x: Array, axis: int, start: int = 0, length: int | None = None) -> Array:
    """Return a part of the axis as (outer, 1, entries that lie next to each other)."""
    inner = math.prod(x.shape[axis + 1 :])
    end = x.shape[axis] if length is None else start + length
    return x.reshape(math.prod(x.shape[:axis]), 1, x.shape[axis] * inner)[:, :, start * inner : end * inner]

"""What stands between a network with several inputs or outputs and its rows: parts of a row, and a row of parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hpcnn.nn.axis_maps import shifted
from hpcnn.nn.context import Context
from hpcnn.nn.layer import Backward, Layer, MultiBackward, MultiInput, Params, Shape, without_parameters
from hpcnn.nn.workspace import Array


@dataclass(frozen=True)
class InputPart(Layer):
    """One of several inputs: the entries of each row from `start` on, in the shape `shape`. Networks add it."""

    shape: Shape
    start: int = 0

    @property
    def title(self) -> str:
        """The input in messages."""
        return f"input {self.name!r}"

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the input."""
        return self.shape

    def ending(self, before: str | None) -> str | None:
        """Return that of the data."""
        return before

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return the part in scratch; the gradient of the row is 0 around it."""
        size, total = math.prod(self.shape), x.shape[1]
        block = math.gcd(self.start, size, total) or 1  # so that whole blocks are copied
        before, after = -self.start // block, -(total - self.start - size) // block
        rows = x.reshape(len(x), total // block, block)
        part, pull = ctx.arithmetic.map_axes(ctx, self.name, rows, [(1, shifted(total // block, before, after))])
        y = part.reshape(len(x), *self.shape)
        return y, without_parameters(lambda dy: pull(dy.reshape(part.shape)).reshape(x.shape))


@dataclass(frozen=True)
class OutputRow(MultiInput):
    """The outputs of a network with several, each as a row of numbers, side by side. Networks add it."""

    def output_shape(self, input_shapes: Sequence[Shape]) -> Shape:  # type: ignore[override]
        """Return the length of the row."""
        return (sum(map(math.prod, input_shapes)),)

    def forward(  # type: ignore[override]
        self, params: Params, x: Sequence[Array], ctx: Context
    ) -> tuple[Array, MultiBackward]:
        """Return the rows in scratch, and copies of their parts on the pass back."""
        shapes = [each.shape for each in x]
        sizes = [math.prod(shape[1:]) for shape in shapes]
        starts = [sum(sizes[:place]) for place in range(len(sizes))]
        row = ctx.scratch(self.name, "row", (len(x[0]), sum(sizes)), x[0].dtype)
        for each, start, size in zip(x, starts, sizes, strict=True):
            ctx.arithmetic.put(each.reshape(len(each), size), 1, start, row)

        def backward(dy: Array, grads: Params, *, need_dx: Sequence[bool]) -> list[Array | None]:
            return [
                part_of(ctx, self.name, f"dx{place}", dy, starts[place], shape) if need_dx[place] else None
                for place, shape in enumerate(shapes)
            ]

        return row, backward


def part_of(ctx: Context, owner: object, use: str, rows: Array, start: int, shape: Shape) -> Array:
    """Return, in scratch, the entries of each row from `start` on that fill `shape`, (n, ...)."""
    part = ctx.scratch(owner, use, (len(rows), math.prod(shape[1:])), rows.dtype)
    return ctx.arithmetic.part(rows, 1, start, part).reshape(shape)

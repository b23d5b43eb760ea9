"""Layers of several inputs: sums, products, means, the largest, and inputs put side by side."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hpcnn.errors import ModelError
from hpcnn.nn.context import Context
from hpcnn.nn.layer import MultiBackward, MultiInput, Params, Shape
from hpcnn.nn.workspace import Array

Split = Callable[[Array, Sequence[bool]], list[Array | None]]
"""``(dy, need_dx) -> dx`` of each input."""


@dataclass(frozen=True)
class _Merging(MultiInput):
    """A layer without parameters that takes two inputs or more."""

    def output_shape(self, input_shapes: Sequence[Shape]) -> Shape:  # type: ignore[override]
        """Return the shape of each input, which must be the same."""
        self._check_number(input_shapes)
        if len(set(input_shapes)) > 1:
            raise ModelError(
                f"{self.title} takes inputs of one shape, but they have the shapes "
                f"{', '.join(map(str, input_shapes))}. Bring them to the same shape before."
            )
        return input_shapes[0]

    def forward(  # type: ignore[override]
        self, params: Params, x: Sequence[Array], ctx: Context
    ) -> tuple[Array, MultiBackward]:
        """Return y in scratch."""
        y, split = self._merge(x, ctx)

        def backward(dy: Array, grads: Params, *, need_dx: Sequence[bool]) -> list[Array | None]:
            return split(dy, need_dx) if any(need_dx) else [None for _ in x]

        return y, backward

    @abstractmethod
    def _merge(self, x: Sequence[Array], ctx: Context) -> tuple[Array, Split]:
        """Return y, and what splits dy."""

    def _check_number(self, input_shapes: Sequence[Shape]) -> None:
        if len(input_shapes) < 2:
            raise ModelError(f"{self.title} merges two inputs or more, but got {len(input_shapes)}")

    def _scratch(self, ctx: Context, use: str, like: Array) -> Array:
        return ctx.scratch(self.name, use, like.shape, like.dtype)

    def _sum(self, x: Sequence[Array], ctx: Context) -> Array:
        """Return the sum, one input after the other."""
        y = ctx.arithmetic.add(x[0], x[1], self._scratch(ctx, "y", x[0]))
        for more in x[2:]:
            ctx.arithmetic.add(y, more, y)
        return y

    def _copies(self, dy: Array, need_dx: Sequence[bool], ctx: Context) -> list[Array | None]:
        """Return dy for each input: itself for the first that needs it, copies for the others."""
        dx: list[Array | None] = []
        first = list(need_dx).index(True)
        for number, needed in enumerate(need_dx):
            if number == first:
                dx.append(dy)
            else:
                dx.append(ctx.arithmetic.copy(dy, self._scratch(ctx, f"dx{number}", dy)) if needed else None)
        return dx


@dataclass(frozen=True)
class Add(_Merging):
    """The sum of the inputs."""

    def ending(self, before: str | None) -> str | None:
        """Return "linear": it ends in a sum."""
        return "linear"

    def _merge(self, x: Sequence[Array], ctx: Context) -> tuple[Array, Split]:
        return self._sum(x, ctx), lambda dy, need_dx: self._copies(dy, need_dx, ctx)


@dataclass(frozen=True)
class Average(_Merging):
    """The mean of the inputs."""

    def _merge(self, x: Sequence[Array], ctx: Context) -> tuple[Array, Split]:
        y, scaled = self._sum(x, ctx), ctx.arithmetic.scaled
        scaled(y, 1 / len(x), y)

        def split(dy: Array, need_dx: Sequence[bool]) -> list[Array | None]:
            return self._copies(scaled(dy, 1 / len(x), self._scratch(ctx, "share", dy)), need_dx, ctx)

        return y, split


@dataclass(frozen=True)
class Multiply(_Merging):
    """The product of the inputs, entry by entry."""

    def _merge(self, x: Sequence[Array], ctx: Context) -> tuple[Array, Split]:
        multiply = ctx.arithmetic.multiply
        products = [x[0]]
        for number, factor in enumerate(x[1:], 1):
            products.append(multiply(products[-1], factor, self._scratch(ctx, f"y{number}", factor)))

        def split(dy: Array, need_dx: Sequence[bool]) -> list[Array | None]:
            dx: list[Array | None] = [None for _ in x]
            for number in range(len(x) - 1, 0, -1):
                if need_dx[number]:
                    dx[number] = multiply(dy, products[number - 1], self._scratch(ctx, f"dx{number}", dy))
                if not any(need_dx[:number]):
                    return dx
                dy = multiply(dy, x[number], self._scratch(ctx, "rest", dy))
            dx[0] = dy
            return dx

        return products[-1], split


@dataclass(frozen=True)
class Maximum(_Merging):
    """The largest of the inputs, entry by entry. The first of equals gets the gradient."""

    def _merge(self, x: Sequence[Array], ctx: Context) -> tuple[Array, Split]:
        largest = [x[0]]
        for number, other in enumerate(x[1:], 1):
            largest.append(ctx.arithmetic.maximum(largest[-1], other, self._scratch(ctx, f"y{number}", other)))

        def split(dy: Array, need_dx: Sequence[bool]) -> list[Array | None]:
            dx: list[Array | None] = [None for _ in x]
            for number in range(len(x) - 1, 0, -1):
                below = any(need_dx[:number])
                # two that take turns: what is read is not what is written
                rest = self._scratch(ctx, f"rest{number % 2}", dy) if below else None
                dx[number] = self._scratch(ctx, f"dx{number}", dy) if need_dx[number] else None
                ctx.arithmetic.maximum_backward(largest[number - 1], x[number], dy, rest, dx[number])
                if rest is None:
                    return dx
                dy = rest
            dx[0] = dy
            return dx

        return largest[-1], split


@dataclass(frozen=True)
class Concatenate(_Merging):
    """The inputs side by side along an axis: -1, the last, or counted from 1, the first of a sample."""

    axis: int = -1

    def output_shape(self, input_shapes: Sequence[Shape]) -> Shape:  # type: ignore[override]
        """Return the shape of the inputs, with their lengths along the axis added."""
        self._check_number(input_shapes)
        first = input_shapes[0]
        place = self._place(first)
        if any(shape[:place] + shape[place + 1 :] != first[:place] + first[place + 1 :] or len(shape) != len(first)
               for shape in input_shapes):  # fmt: skip
            raise ModelError(
                f"{self.title} puts inputs side by side along axis {self.axis}; along all others they must have the "
                f"same lengths, but their shapes are {', '.join(map(str, input_shapes))}"
            )
        return (*first[:place], sum(shape[place] for shape in input_shapes), *first[place + 1 :])

    def _place(self, shape: Shape) -> int:
        """Return the axis of a sample, counted from 0."""
        place = self.axis - 1 if self.axis > 0 else len(shape) + self.axis
        if self.axis == 0 or not 0 <= place < len(shape):
            raise ModelError(
                f"{self.title}: axis must be 1 to {len(shape)}, or -{len(shape)} to -1, for samples of shape {shape}, "
                f"but is {self.axis}"
            )
        return place

    def _merge(self, x: Sequence[Array], ctx: Context) -> tuple[Array, Split]:
        shape = self.output_shape([array.shape[1:] for array in x])
        axis = self._place(shape) + 1
        y = ctx.scratch(self.name, "y", (len(x[0]), *shape), x[0].dtype)
        starts = [0]
        for array in x:
            ctx.arithmetic.put(array, axis, starts[-1], y)
            starts.append(starts[-1] + array.shape[axis])

        def split(dy: Array, need_dx: Sequence[bool]) -> list[Array | None]:
            return [
                ctx.arithmetic.part(dy, axis, start, ctx.scratch(self.name, f"dx{number}", array.shape, array.dtype))
                if needed
                else None
                for number, (array, start, needed) in enumerate(zip(x, starts, need_dx, strict=False))
            ]

        return y, split

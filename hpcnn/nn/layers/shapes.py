"""Layers that change nothing but the shape of each sample."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hpcnn.errors import ModelError
from hpcnn.nn.context import Context
from hpcnn.nn.layer import Backward, Layer, Params, Shape
from hpcnn.nn.workspace import Array


@dataclass(frozen=True)
class _Reshaping(Layer):
    """A layer that changes nothing but the shape of each sample."""

    def ending(self, before: str | None) -> str | None:
        return before

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        def backward(dy: Array, grads: Params, *, need_dx: bool = True) -> Array | None:
            return dy.reshape(x.shape) if need_dx else None

        return x.reshape(len(x), *self.output_shape(x.shape[1:])), backward


@dataclass(frozen=True)
class Flatten(_Reshaping):
    """All axes of a sample into one: (n, a, b, ...) -> (n, a b ...)."""

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape with one axis."""
        return (math.prod(input_shape),)


@dataclass(frozen=True)
class Reshape(_Reshaping):
    """Another shape for each sample; one entry of `shape` may be -1, and follows from the others."""

    shape: Shape

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        if self.shape.count(-1) > 1 or any(entry < 1 and entry != -1 for entry in self.shape):
            raise ModelError(
                f"{self.title}: a shape is made of positive numbers and at most one -1, but is {self.shape}"
            )

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return `shape`, with -1 filled in."""
        size, known = math.prod(input_shape), math.prod(entry for entry in self.shape if entry != -1)
        if size % known or (-1 not in self.shape and size != known):
            raise ModelError(
                f"{self.title} can't turn inputs of shape {input_shape} ({size} numbers a sample) into "
                f"{self.shape}: {size} is not {'a multiple of ' if -1 in self.shape else ''}{known}"
            )
        return tuple(size // known if entry == -1 else entry for entry in self.shape)

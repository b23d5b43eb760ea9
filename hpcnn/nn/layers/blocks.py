"""Layers that hold others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hpcnn.errors import ModelError
from hpcnn.nn.context import Context
from hpcnn.nn.layer import Backward, Layer, Params, Shape
from hpcnn.nn.params import ParamSpec
from hpcnn.nn.workspace import Array


@dataclass(frozen=True)
class Residual(Layer):
    """y = x + layers(x) (He et al., 2016)."""

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.layers:
            raise ModelError(f"{self.title} holds no layers: give it at least one")

    @property
    def children(self) -> tuple[Layer, ...]:
        """The inner layers."""
        return self.layers

    def with_children(self, children: Sequence[Layer]) -> Residual:
        """Return the same block around other layers."""
        return replace(self, layers=tuple(children))

    def ending(self, before: str | None) -> str | None:
        """Return "linear": it ends in a sum."""
        return "linear"

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return `input_shape`, which the inner layers must keep."""
        shape = input_shape
        for layer in self.layers:
            shape = layer.output_shape(shape)
        if shape != input_shape:
            raise ModelError(
                f"{self.title} adds its input of shape {input_shape} to what its inner layers make of it, but "
                f"they make {shape}. Let its last layer, {self.layers[-1].name!r}, return the shape {input_shape}."
            )
        return input_shape

    def parameters(self, input_shape: Shape) -> Sequence[ParamSpec]:
        """Return the parameters of the inner layers."""
        specs: list[ParamSpec] = []
        for layer in self.layers:
            specs += layer.parameters(input_shape)
            input_shape = layer.output_shape(input_shape)
        return specs

    def multiply_adds(self, input_shape: Shape) -> int:
        """Return those of the inner layers."""
        total = 0
        for layer in self.layers:
            total += layer.multiply_adds(input_shape)
            input_shape = layer.output_shape(input_shape)
        return total

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y, of x's shape, in scratch."""
        inner, backwards = x, list[Backward]()
        for layer in self.layers:
            inner, layer_backward = layer.forward(params, inner, ctx)
            backwards.append(layer_backward)
        add, copy = ctx.arithmetic.add, ctx.arithmetic.copy
        y = add(x, inner, ctx.scratch(self.name, "y", x.shape, x.dtype))

        def backward(dy: Array, grads: Params, *, need_dx: bool = True) -> Array | None:
            # the inner layers may overwrite dy, which the sum below still needs
            dx = copy(dy, ctx.scratch(self.name, "dx", dy.shape, dy.dtype))
            inner_dx: Array | None = dy
            for place in reversed(range(len(backwards))):
                assert inner_dx is not None, "a layer returned no dx"
                inner_dx = backwards[place](inner_dx, grads, need_dx=need_dx or place > 0)
            return None if inner_dx is None else add(dx, inner_dx, dx)

        return y, backward

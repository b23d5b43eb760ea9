"""The layers: dense, activation, shapes, dropout and residual blocks. Definitions and defaults are those of Keras 3."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hpcnn.errors import ModelError
from hpcnn.nn.activations import activation
from hpcnn.nn.arithmetic import Pull
from hpcnn.nn.context import Context
from hpcnn.nn.initializers import initializer
from hpcnn.nn.layer import Backward, Layer, Params, Shape
from hpcnn.nn.params import ParamSpec
from hpcnn.nn.workspace import Array


@dataclass(frozen=True)
class Dense(Layer):
    """y = activation(x . kernel + bias), over the last axis: (n, ..., features) -> (n, ..., units)."""

    units: int
    activation: str = "linear"
    use_bias: bool = True
    kernel_initializer: str = "glorot_uniform"
    bias_initializer: str = "zeros"
    kernel_l1: float = 0.0
    kernel_l2: float = 0.0
    bias_l1: float = 0.0
    bias_l2: float = 0.0
    trainable: bool = True

    def __post_init__(self) -> None:
        if self.units < 1:
            raise ModelError(f"{self.title}: units must be at least 1, but is {self.units}")
        activation(self.activation)
        initializer(self.kernel_initializer)
        initializer(self.bias_initializer)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return ``(..., units)``."""
        if not input_shape:
            raise ModelError(
                f"{self.title} needs inputs with at least one axis, but each sample is a single number (shape "
                "()). Put a flatten layer before it."
            )
        return (*input_shape[:-1], self.units)

    def parameters(self, input_shape: Shape) -> Sequence[ParamSpec]:
        """Return the kernel (features, units), and the bias (units,) if there is one."""
        arrays: list[tuple[str, Shape, str, float, float]] = [
            ("kernel", (input_shape[-1], self.units), self.kernel_initializer, self.kernel_l1, self.kernel_l2)
        ]
        if self.use_bias:
            arrays.append(("bias", (self.units,), self.bias_initializer, self.bias_l1, self.bias_l2))
        return [
            ParamSpec(f"{self.name}/{name}", shape, initializer(start), self.trainable, l1, l2)
            for name, shape, start, l1, l2 in arrays
        ]

    def ending(self, before: str | None) -> str | None:
        """Return the activation: not of a subclass, which may do more."""
        return self.activation if type(self) is Dense else None

    def split_activation(self) -> tuple[Layer | None, str]:
        """Return the layer with a linear activation, and its own."""
        return (replace(self, activation="linear"), self.activation) if type(self) is Dense else (self, "linear")

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y (n, ..., units), in scratch."""
        kernel, bias = f"{self.name}/kernel", f"{self.name}/bias"
        rows = x.reshape(-1, x.shape[-1])  # copies only if x is no plain array
        y, dense_backward = ctx.arithmetic.dense(
            ctx, self.name, rows, params[kernel], params[bias] if self.use_bias else None, self.activation
        )

        def backward(dy: Array, grads: Params, *, need_dx: bool = True) -> Array | None:
            dx = dense_backward(dy.reshape(y.shape), grads.get(kernel), grads.get(bias), need_dx=need_dx)
            return None if dx is None else dx.reshape(x.shape)

        return y.reshape(*x.shape[:-1], self.units), backward


@dataclass(frozen=True)
class Activation(Layer):
    """An activation on its own."""

    activation: str

    def __post_init__(self) -> None:
        activation(self.activation)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return `input_shape`."""
        if self.activation == "softmax" and not input_shape:
            raise ModelError(
                f"{self.title}: softmax needs inputs with at least one axis, but each sample is a single number "
                "(shape ())"
            )
        return input_shape

    def ending(self, before: str | None) -> str | None:
        """Return the activation: not of a subclass, which may do more."""
        return self.activation if type(self) is Activation else None

    def split_activation(self) -> tuple[Layer | None, str]:
        """Return no layer, and the activation."""
        return (None, self.activation) if type(self) is Activation else (self, "linear")

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y, of x's shape, in scratch."""
        y, pull = ctx.arithmetic.activation(ctx, self.name, self.activation, x)
        return y, _without_parameters(pull)


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


@dataclass(frozen=True)
class Dropout(Layer):
    """Zeroes a share `rate` of the inputs while training, and scales the others by 1 / (1 - rate).

    Source: Srivastava et al., 2014, in the inverted form. The draws depend on the context's random key alone.
    """

    rate: float

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise ModelError(f"{self.title}: rate must be at least 0 and below 1, but is {self.rate}")

    def ending(self, before: str | None) -> str | None:
        """Return `before`."""
        return before

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y, of x's shape: in scratch while training, else x itself."""
        if not ctx.training or self.rate == 0:
            return x, lambda dy, grads, *, need_dx=True: dy if need_dx else None
        y, pull = ctx.arithmetic.dropout(ctx, self.name, x, self.rate)
        return y, _without_parameters(pull)


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


def _without_parameters(pull: Pull) -> Backward:
    """Return the backward pass of a layer that has nothing to learn."""

    def backward(dy: Array, grads: Params, *, need_dx: bool = True) -> Array | None:
        return pull(dy) if need_dx else None

    return backward

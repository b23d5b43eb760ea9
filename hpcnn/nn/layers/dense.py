"""Layers over the last axis: dense ones, and activations on their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hpcnn.errors import ModelError
from hpcnn.nn.activations import activation
from hpcnn.nn.context import Context
from hpcnn.nn.initializers import initializer
from hpcnn.nn.layer import Backward, Layer, Params, Shape, without_parameters
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

    def multiply_adds(self, input_shape: Shape) -> int:
        """Return the multiply-adds of a forward pass over one sample of `input_shape`."""
        return math.prod(input_shape) * self.units

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
        return y, without_parameters(pull)

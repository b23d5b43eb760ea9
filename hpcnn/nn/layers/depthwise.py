"""Convolutions of each channel by itself, and those followed by a product over the channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hpcnn.nn.context import Context
from hpcnn.nn.geometry import Geometry
from hpcnn.nn.initializers import initializer
from hpcnn.nn.layer import Backward, Params, Shape
from hpcnn.nn.layers.convolution import Sizes, Sliding
from hpcnn.nn.params import ParamSpec
from hpcnn.nn.workspace import Array


class Depthwise(Sliding):
    """What layers share whose kernel has `depth_multiplier` filters for each channel."""

    depth_multiplier: int
    depthwise_initializer: str

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least_1("depth_multiplier")
        initializer(self.depthwise_initializer)

    def _kernel_shape(self, input_shape: Shape) -> Shape:
        return (*self._each("kernel_size"), input_shape[-1], self.depth_multiplier)

    def geometry(self, input_shape: Shape) -> Geometry:
        """Return the shape of the convolution of inputs of `input_shape` (no batch axis)."""
        return self._sliding(input_shape, input_shape[-1])

    def _weights(self, kernel: Array, found: Geometry) -> Array:
        """Return the kernel as that of a convolution with a group for each channel."""
        return kernel.reshape(*found.kernel, 1, -1)

    def _depthwise_adds(self, input_shape: Shape) -> int:
        return self.geometry(input_shape).positions * math.prod(self._kernel_shape(input_shape))


@dataclass(frozen=True)
class DepthwiseConv2D(Depthwise):
    """A convolution of each channel by itself, (n, height, width, channels) -> (..., channels depth_multiplier)."""

    axes = 2
    kernel_size: Sizes
    strides: Sizes = 1
    padding: str = "valid"
    depth_multiplier: int = 1
    dilation_rate: Sizes = 1
    activation: str = "linear"
    use_bias: bool = True
    depthwise_initializer: str = "glorot_uniform"
    bias_initializer: str = "zeros"
    depthwise_l1: float = 0.0
    depthwise_l2: float = 0.0
    bias_l1: float = 0.0
    bias_l2: float = 0.0
    trainable: bool = True

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return ``(..., channels depth_multiplier)``."""
        found = self.geometry(input_shape)
        return (*found.outputs[-self.axes :], input_shape[-1] * self.depth_multiplier)

    def parameters(self, input_shape: Shape) -> Sequence[ParamSpec]:
        """Return the kernel (*kernel_size, channels, depth_multiplier), and the bias if there is one."""
        shape, l1, l2 = self._kernel_shape(input_shape), self.depthwise_l1, self.depthwise_l2
        kernel = ParamSpec(
            f"{self.name}/kernel", shape, initializer(self.depthwise_initializer), self.trainable, l1, l2
        )
        return [kernel, *self._biases(input_shape[-1] * self.depth_multiplier)]

    def multiply_adds(self, input_shape: Shape) -> int:
        """Return the multiply-adds of a forward pass over one sample."""
        return self._depthwise_adds(input_shape)

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y, in scratch."""
        kernel, bias = f"{self.name}/kernel", f"{self.name}/bias"
        found = self.geometry(x.shape[1:])
        weights = self._weights(params[kernel], found)
        y, pull = ctx.arithmetic.convolution(
            ctx, self.name, self._image(x, x.shape[1:]), weights, params.get(bias), self.activation, found
        )

        def backward(dy: Array, grads: Params, *, need_dx: bool = True) -> Array | None:
            dx = pull(dy.reshape(y.shape), grads.get(kernel), grads.get(bias), need_dx=need_dx)
            return None if dx is None else dx.reshape(x.shape)

        return y.reshape(len(x), *found.outputs[-self.axes :], y.shape[-1]), backward


@dataclass(frozen=True)
class SeparableConv2D(Depthwise):
    """A depthwise convolution, then a product over the channels: (n, height, width, channels) -> (..., filters).

    Source: Chollet, 2017. Bias and activation come after the product.
    """

    axes = 2
    filters: int
    kernel_size: Sizes
    strides: Sizes = 1
    padding: str = "valid"
    dilation_rate: Sizes = 1
    depth_multiplier: int = 1
    activation: str = "linear"
    use_bias: bool = True
    depthwise_initializer: str = "glorot_uniform"
    pointwise_initializer: str = "glorot_uniform"
    bias_initializer: str = "zeros"
    depthwise_l1: float = 0.0
    depthwise_l2: float = 0.0
    pointwise_l1: float = 0.0
    pointwise_l2: float = 0.0
    bias_l1: float = 0.0
    bias_l2: float = 0.0
    trainable: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least_1("filters")
        initializer(self.pointwise_initializer)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return ``(..., filters)``."""
        return (*self.geometry(input_shape).outputs[-self.axes :], self.filters)

    def parameters(self, input_shape: Shape) -> Sequence[ParamSpec]:
        """Return the kernels (*kernel_size, channels, depth_multiplier) and (1, 1, ..., filters), and the bias."""
        inner = input_shape[-1] * self.depth_multiplier
        pointwise = self._weight("pointwise_kernel", (*(1,) * self.axes, inner, self.filters))
        return [
            self._weight("depthwise_kernel", self._kernel_shape(input_shape)),
            pointwise,
            *self._biases(self.filters),
        ]

    def multiply_adds(self, input_shape: Shape) -> int:
        """Return the multiply-adds of a forward pass over one sample."""
        inner = input_shape[-1] * self.depth_multiplier
        return self._depthwise_adds(input_shape) + self.geometry(input_shape).positions * inner * self.filters

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y (n, ..., filters), in scratch."""
        depthwise, pointwise, bias = (
            f"{self.name}/{name}" for name in ("depthwise_kernel", "pointwise_kernel", "bias")
        )
        found = self.geometry(x.shape[1:])
        inner, inner_pull = ctx.arithmetic.convolution(
            ctx, (self.name, "depthwise"), self._image(x, x.shape[1:]), self._weights(params[depthwise], found), None,
            "linear", found,
        )  # fmt: skip
        rows = inner.reshape(len(x) * found.positions, inner.shape[-1])
        product = params[pointwise].reshape(params[pointwise].shape[-2:])
        y, pull = ctx.arithmetic.dense(ctx, self.name, rows, product, params.get(bias), self.activation)

        def backward(dy: Array, grads: Params, *, need_dx: bool = True) -> Array | None:
            learns = depthwise in grads
            given = grads.get(pointwise)
            if isinstance(given, tuple):
                given = tuple(each.reshape(product.shape) for each in given)
            elif given is not None:
                given = given.reshape(product.shape)
            d_inner = pull(dy.reshape(y.shape), given, grads.get(bias), need_dx=need_dx or learns)
            if d_inner is None:
                return None
            dx = inner_pull(d_inner.reshape(inner.shape), grads.get(depthwise), None, need_dx=need_dx)
            return None if dx is None else dx.reshape(x.shape)

        return y.reshape(len(x), *found.outputs[-self.axes :], self.filters), backward

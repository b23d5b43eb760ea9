"""Convolutions of each channel by itself, and those followed by a product over the channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hpcnn.nn.context import Context
from hpcnn.nn.geometry import Geometry, geometry
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
        kernel = self._weight("kernel", self._kernel_shape(input_shape), "depthwise")
        return [kernel, *self._biases(input_shape[-1] * self.depth_multiplier)]

    def multiply_adds(self, input_shape: Shape) -> int:
        """Return the multiply-adds of a forward pass over one sample."""
        return self._depthwise_adds(input_shape)

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y, in scratch."""
        weights = self._weights(params[f"{self.name}/kernel"], self.geometry(x.shape[1:]))
        return self._pass(ctx.arithmetic.convolution, params, x, ctx, weights)


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
        depthwise = self._weight("depthwise_kernel", self._kernel_shape(input_shape), "depthwise")
        pointwise = self._weight("pointwise_kernel", (*(1,) * self.axes, inner, self.filters), "pointwise")
        return [depthwise, pointwise, *self._biases(self.filters)]

    def multiply_adds(self, input_shape: Shape) -> int:
        """Return the multiply-adds of a forward pass over one sample."""
        inner = input_shape[-1] * self.depth_multiplier
        return self._depthwise_adds(input_shape) + self.geometry(input_shape).positions * inner * self.filters

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y (n, ..., filters), in scratch."""
        depthwise, pointwise = f"{self.name}/depthwise_kernel", f"{self.name}/pointwise_kernel"
        found = self.geometry(x.shape[1:])
        weights, owner = self._weights(params[depthwise], found), (self.name, "depthwise")
        inner, inner_pull = ctx.arithmetic.convolution(ctx, owner, self._image(x), weights, None, "linear", found)
        kernel = params[pointwise].reshape(1, *params[pointwise].shape)
        points = geometry(found.outputs, (1, 1, 1), (1, 1, 1), (1, 1, 1), "valid")
        bias = params.get(f"{self.name}/bias")
        y, pull = ctx.arithmetic.convolution(ctx, self.name, inner, kernel, bias, self.activation, points)

        def backward(dy: Array, grads: Params, *, need_dx: bool = True) -> Array | None:
            learns = depthwise in grads
            d_inner = pull(
                dy.reshape(y.shape), grads.get(pointwise), grads.get(f"{self.name}/bias"), need_dx=need_dx or learns
            )
            if d_inner is None:
                return None
            dx = inner_pull(d_inner, grads.get(depthwise), None, need_dx=need_dx)
            return None if dx is None else dx.reshape(x.shape)

        return y.reshape(len(x), *self.output_shape(x.shape[1:])), backward

"""Convolutions over one to three axes, channels last: plain, in groups, and transposed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from hpcnn.errors import ModelError, unknown_name
from hpcnn.nn.activations import activation
from hpcnn.nn.arithmetic import DenseBackward
from hpcnn.nn.context import Context
from hpcnn.nn.geometry import PADDINGS, Geometry, geometry, three, transposed_geometry
from hpcnn.nn.initializers import initializer
from hpcnn.nn.layer import Backward, Layer, Params, Shape
from hpcnn.nn.layers.spatial import MOST_STEPS, axes_remedy
from hpcnn.nn.params import MOST_ENTRIES, ParamSpec
from hpcnn.nn.workspace import Array

Sizes = int | Sequence[int]
"""One number for all axes, or one for each."""
Slide = Callable[[Context, object, Array, Array, Array | None, str, Geometry], tuple[Array, DenseBackward]]
"""An operation of the arithmetic."""
_AXES = {1: "(steps, channels)", 2: "(height, width, channels)", 3: "(depth, height, width, channels)"}


class Sliding(Layer):
    """What layers share that slide a kernel over an image."""

    axes: ClassVar[int]
    kernel_size: Sizes
    strides: Sizes
    padding: str
    dilation_rate: Sizes
    activation: str
    use_bias: bool
    bias_initializer: str
    bias_l1: float
    bias_l2: float
    trainable: bool

    @property
    def kind(self) -> str:
        """What a job file calls such layers, as ``conv2d_transpose``."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[0-9]D)(?=[A-Z])", "_", type(self).__name__).lower()

    def __post_init__(self) -> None:
        for key in ("kernel_size", "strides", "dilation_rate"):
            object.__setattr__(self, key, self._each(key))
        paddings = PADDINGS if self.axes == 1 and not isinstance(self, Transpose) else PADDINGS[:2]
        if self.padding not in paddings:
            unknown_name("padding", self.padding, paddings, ModelError)
        if max(self._each("strides")) > 1 and max(self._each("dilation_rate")) > 1:
            raise ModelError(
                f"{self.title}: strides {self.strides} and dilation_rate {self.dilation_rate} can't both be above 1: "
                "set one of them to 1"
            )
        activation(self.activation)
        initializer(self.bias_initializer)

    def _each(self, key: str) -> tuple[int, ...]:
        given = getattr(self, key)
        sizes = (given,) * self.axes if isinstance(given, int) else tuple(given)
        if len(sizes) != self.axes or any(not isinstance(size, int) or not 1 <= size <= MOST_STEPS for size in sizes):
            several = f" or {self.axes}," if self.axes > 1 else ","
            raise ModelError(
                f"{self.title}: {key} must be one number{several} each from 1 to {MOST_STEPS}, but is {given}"
            )
        return sizes

    def _at_least_1(self, *keys: str) -> None:
        for key in keys:
            if getattr(self, key) < 1:
                raise ModelError(f"{self.title}: {key} must be at least 1, but is {getattr(self, key)}")

    def _check_input(self, input_shape: Shape) -> None:
        if len(input_shape) != self.axes + 1:
            raise ModelError(
                f"{self.title} needs inputs of shape {_AXES[self.axes]}, but each sample has shape {input_shape}. "
                f"{axes_remedy(input_shape, self.axes + 1)}"
            )

    def geometry(self, input_shape: Shape) -> Geometry:
        """Return the shape of the convolution of inputs of `input_shape` (no batch axis)."""
        return self._sliding(input_shape, 1)

    def _sliding(self, input_shape: Shape, groups: int) -> Geometry:
        self._check_input(input_shape)
        kernel, strides, dilation = (self._each(key) for key in ("kernel_size", "strides", "dilation_rate"))
        found = geometry(input_shape[:-1], kernel, strides, dilation, self.padding, groups)
        if min(found.outputs) < 1:
            raise ModelError(
                f"{self.title}: a kernel of size {self.kernel_size} (dilation_rate {self.dilation_rate}) does not fit "
                f'into inputs of shape {input_shape}. Make it smaller, or set padding = "same".'
            )
        return self._checked(found)

    def _checked(self, found: Geometry) -> Geometry:
        """Return a geometry if the compiled core can compute it."""
        sizes = zip(found.inputs, found.before, found.kernel, found.dilation, strict=True)
        positions = math.prod(size + before + taps * spread for size, before, taps, spread in sizes)
        if max(found.before) > MOST_STEPS or positions > MOST_ENTRIES:
            raise ModelError(
                f"{self.title}: kernel_size {self.kernel_size}, strides {self.strides} and dilation_rate "
                f"{self.dilation_rate} reach too far beyond inputs with axes of {found.inputs[-self.axes :]}. Make "
                "them smaller."
            )
        return found

    def _weight(self, name: str, shape: Shape, settings: str) -> ParamSpec:
        """Return a parameter whose initializer and penalties are those of `settings`."""
        start, l1, l2 = (getattr(self, f"{settings}_{key}") for key in ("initializer", "l1", "l2"))
        return ParamSpec(f"{self.name}/{name}", shape, initializer(start), self.trainable, l1, l2)

    def _biases(self, channels: int) -> list[ParamSpec]:
        return [self._weight("bias", (channels,), "bias")] if self.use_bias else []

    def _image(self, x: Array) -> Array:
        """Return samples with all three axes."""
        return x.reshape(len(x), *three(x.shape[1:-1]), x.shape[-1])  # copies only if x is no plain array

    def _pass(self, slide: Slide, params: Params, x: Array, ctx: Context, weights: Array) -> tuple[Array, Backward]:
        """Return y and the pass back of one operation, whose kernel is `weights`."""
        kernel, bias = f"{self.name}/kernel", f"{self.name}/bias"
        found = self.geometry(x.shape[1:])
        y, pull = slide(ctx, self.name, self._image(x), weights, params.get(bias), self.activation, found)

        def backward(dy: Array, grads: Params, *, need_dx: bool = True) -> Array | None:
            dx = pull(dy.reshape(y.shape), grads.get(kernel), grads.get(bias), need_dx=need_dx)
            return None if dx is None else dx.reshape(x.shape)

        return y.reshape(len(x), *self.output_shape(x.shape[1:])), backward

    def ending(self, before: str | None) -> str | None:
        """Return the activation: not of a subclass, which may do more."""
        return self.activation if self.recordable else None

    def split_activation(self) -> tuple[Layer | None, str]:
        """Return the layer with a linear activation, and its own."""
        if not self.recordable:
            return self, "linear"
        linear: Any = self
        return replace(linear, activation="linear"), self.activation


@dataclass(frozen=True)
class Convolution(Sliding):
    """y = activation(convolution of x with the kernel + bias): (n, ..., channels) -> (n, ..., filters).

    Channels and filters are cut into `groups`, and a filter sees the channels of its own group.
    """

    filters: int
    kernel_size: Sizes
    strides: Sizes = 1
    padding: str = "valid"
    dilation_rate: Sizes = 1
    groups: int = 1
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
        super().__post_init__()
        self._at_least_1("filters", "groups")
        initializer(self.kernel_initializer)
        if self.filters % self.groups:
            raise ModelError(
                f"{self.title}: filters must be a multiple of groups = {self.groups}, but is {self.filters}"
            )

    def geometry(self, input_shape: Shape) -> Geometry:
        """Return the shape of the convolution of inputs of `input_shape` (no batch axis)."""
        return self._sliding(input_shape, self.groups)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return ``(..., filters)``."""
        found = self.geometry(input_shape)
        if input_shape[-1] % self.groups:
            raise ModelError(
                f"{self.title}: groups = {self.groups} must divide the number of channels, but inputs of shape "
                f"{input_shape} have {input_shape[-1]}"
            )
        return (*found.outputs[-self.axes :], self.filters)

    def parameters(self, input_shape: Shape) -> Sequence[ParamSpec]:
        """Return the kernel (*kernel_size, channels of a group, filters), and the bias (filters,) if there is one."""
        shape = (*self._each("kernel_size"), input_shape[-1] // self.groups, self.filters)
        return [self._weight("kernel", shape, "kernel"), *self._biases(self.filters)]

    def multiply_adds(self, input_shape: Shape) -> int:
        """Return the multiply-adds of a forward pass over one sample."""
        positions = self.geometry(input_shape).positions
        return positions * math.prod(self._each("kernel_size")) * (input_shape[-1] // self.groups) * self.filters

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y (n, ..., filters), in scratch."""
        kernel = params[f"{self.name}/kernel"]
        weights = kernel.reshape(*three(kernel.shape[:-2]), *kernel.shape[-2:])
        return self._pass(ctx.arithmetic.convolution, params, x, ctx, weights)


class Conv1D(Convolution):
    """A convolution over one axis: (n, steps, channels) -> (n, steps, filters)."""

    axes = 1


class Conv2D(Convolution):
    """A convolution over two axes: (n, height, width, channels) -> (n, height, width, filters)."""

    axes = 2


class Conv3D(Convolution):
    """A convolution over three axes: (n, depth, height, width, channels) -> (n, depth, height, width, filters)."""

    axes = 3


@dataclass(frozen=True)
class Transpose(Sliding):
    """y = activation(transposed convolution of x + bias): (n, ..., channels) -> (n, ..., filters).

    It enlarges the image by its strides: what the gradient of a convolution's inputs is made of its outputs'.
    """

    filters: int
    kernel_size: Sizes
    strides: Sizes = 1
    padding: str = "valid"
    dilation_rate: Sizes = 1
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
        super().__post_init__()
        self._at_least_1("filters")
        initializer(self.kernel_initializer)

    def geometry(self, input_shape: Shape) -> Geometry:
        """Return the shape of the convolution whose outputs have `input_shape` (no batch axis)."""
        self._check_input(input_shape)
        kernel, strides, dilation = (self._each(key) for key in ("kernel_size", "strides", "dilation_rate"))
        return self._checked(transposed_geometry(input_shape[:-1], kernel, strides, dilation, self.padding))

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return ``(..., filters)``."""
        return (*self.geometry(input_shape).inputs[-self.axes :], self.filters)

    def parameters(self, input_shape: Shape) -> Sequence[ParamSpec]:
        """Return the kernel (*kernel_size, filters, channels), and the bias (filters,) if there is one."""
        shape = (*self._each("kernel_size"), self.filters, input_shape[-1])
        return [self._weight("kernel", shape, "kernel"), *self._biases(self.filters)]

    def multiply_adds(self, input_shape: Shape) -> int:
        """Return the multiply-adds of a forward pass over one sample."""
        return math.prod(input_shape) * math.prod(self._each("kernel_size")) * self.filters

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y (n, ..., filters), in scratch."""
        kernel = params[f"{self.name}/kernel"]
        weights = kernel.reshape(*three(kernel.shape[:-2]), *kernel.shape[-2:])
        return self._pass(ctx.arithmetic.transposed_convolution, params, x, ctx, weights)


class Conv1DTranspose(Transpose):
    """A transposed convolution over one axis: (n, steps, channels) -> (n, steps, filters)."""

    axes = 1


class Conv2DTranspose(Transpose):
    """A transposed convolution over two axes: (n, height, width, channels) -> (n, height, width, filters)."""

    axes = 2


class Conv3DTranspose(Transpose):
    """A transposed convolution over three axes."""

    axes = 3

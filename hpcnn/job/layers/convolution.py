"""Convolutions over one to three axes."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from hpcnn.job.layers.base import Activation, Initializer, LayerSection
from hpcnn.job.section import NonNegative, PositiveInt

Sizes = PositiveInt | Annotated[list[PositiveInt], Meta(min_length=1)]


class SlidingSection(LayerSection, frozen=True, kw_only=True):
    """Settings of all convolutions."""

    kernel_size: Sizes
    """Size of the kernel: one number, or one for each axis."""
    strides: Sizes = 1
    """Steps of the kernel: one number, or one for each axis."""
    dilation_rate: Sizes = 1
    """Distance of the kernel's taps: one number, or one for each axis; above 1 only where `strides` is 1."""
    activation: Activation = "linear"
    """Applied to the output."""
    use_bias: bool = True
    """Whether to add a bias."""
    bias_initializer: Literal["zeros", "ones"] = "zeros"
    """Initializer of the bias."""
    bias_l1: NonNegative = 0.0
    """Penalty on the sum of |bias|."""
    bias_l2: NonNegative = 0.0
    """Penalty on the sum of bias^2."""
    trainable: bool = True
    """`false` freezes the layer."""


class _Convolution(SlidingSection, frozen=True, kw_only=True):
    """Settings of convolutions with one kernel for all channels."""

    filters: PositiveInt
    """Channels of the output."""
    kernel_initializer: Initializer = "glorot_uniform"
    """Initializer of the kernel."""
    kernel_l1: NonNegative = 0.0
    """Penalty on the sum of |kernel|."""
    kernel_l2: NonNegative = 0.0
    """Penalty on the sum of kernel^2."""


class _Grouped(_Convolution, frozen=True, kw_only=True):
    """Settings of plain convolutions."""

    groups: PositiveInt = 1
    """Parts that channels and filters are cut into: a filter sees the channels of its own part."""


class Conv1D(_Grouped, frozen=True, kw_only=True, tag="conv1d"):
    """A convolution over samples of shape (steps, channels)."""

    padding: Literal["valid", "same", "causal"] = "valid"
    """Zeros around the input: none, as many as keep its size, or those all before it."""


class Conv2D(_Grouped, frozen=True, kw_only=True, tag="conv2d"):
    """A convolution over samples of shape (height, width, channels)."""

    padding: Literal["valid", "same"] = "valid"
    """Zeros around the input: none, or as many as keep its size."""


class Conv3D(_Grouped, frozen=True, kw_only=True, tag="conv3d"):
    """A convolution over samples of shape (depth, height, width, channels)."""

    padding: Literal["valid", "same"] = "valid"
    """Zeros around the input: none, or as many as keep its size."""


class _Depthwise(SlidingSection, frozen=True, kw_only=True):
    """Settings of convolutions of each channel by itself."""

    padding: Literal["valid", "same"] = "valid"
    """Zeros around the input: none, or as many as keep its size."""
    depth_multiplier: PositiveInt = 1
    """Filters of each channel."""
    depthwise_initializer: Initializer = "glorot_uniform"
    """Initializer of the kernel of each channel."""
    depthwise_l1: NonNegative = 0.0
    """Penalty on the sum of |kernel|, of that of each channel."""
    depthwise_l2: NonNegative = 0.0
    """Penalty on the sum of kernel^2, of that of each channel."""


class DepthwiseConv2D(_Depthwise, frozen=True, kw_only=True, tag="depthwise_conv2d"):
    """A convolution of each channel by itself, over samples of shape (height, width, channels)."""


class SeparableConv2D(_Depthwise, frozen=True, kw_only=True, tag="separable_conv2d"):
    """A convolution of each channel by itself, then a product over the channels."""

    filters: PositiveInt
    """Channels of the output."""
    pointwise_initializer: Initializer = "glorot_uniform"
    """Initializer of the kernel of the product."""
    pointwise_l1: NonNegative = 0.0
    """Penalty on the sum of |kernel|, of that of the product."""
    pointwise_l2: NonNegative = 0.0
    """Penalty on the sum of kernel^2, of that of the product."""


class _Transpose(_Convolution, frozen=True, kw_only=True):
    """Settings of transposed convolutions."""

    padding: Literal["valid", "same"] = "valid"
    """What is cut off the output: nothing, or what is beyond the input's size times `strides`."""


class Conv1DTranspose(_Transpose, frozen=True, kw_only=True, tag="conv1d_transpose"):
    """A transposed convolution over samples of shape (steps, channels), which enlarges them by its strides."""


class Conv2DTranspose(_Transpose, frozen=True, kw_only=True, tag="conv2d_transpose"):
    """A transposed convolution over samples of shape (height, width, channels)."""


class Conv3DTranspose(_Transpose, frozen=True, kw_only=True, tag="conv3d_transpose"):
    """A transposed convolution over samples of shape (depth, height, width, channels)."""

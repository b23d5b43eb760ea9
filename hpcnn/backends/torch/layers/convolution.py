"""Convolutions. Images are channels last, which PyTorch computes on as they are: the permuted tensors are views.

Kernels are copied into PyTorch's order of axes: not all of its convolutions take permuted ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hpcnn.backends.torch.layers.making import Call, Make, Place, behind
from hpcnn.backends.torch.layers.spatial import around, paddings
from hpcnn.nn.layer import Layer
from hpcnn.nn.layers import (
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    Conv3D,
    Conv3DTranspose,
    DepthwiseConv2D,
    SeparableConv2D,
)


def _kernel(kernel: Any) -> Any:
    """Return a kernel (..., channels, filters) as (filters, channels, ...)."""
    return kernel.movedim((-1, -2), (0, 1)).contiguous()


def _slide(place: Place, groups: int) -> Callable[[Any, Any, Any], Any]:
    """Return ``(x, kernel, bias) -> y`` with PyTorch's kernel (filters, channels of a group, ...)."""
    from torch.nn import functional as f

    layer, axes = place.layer, place.layer.axes
    before, after = paddings(layer.geometry(place.input_shape), axes)
    zeros = around(before, after)
    same = zeros[::2] == zeros[1::2]  # then the convolution itself puts them around
    own = before if same else (0,) * axes
    convolve = (f.conv1d, f.conv2d, f.conv3d)[axes - 1]

    def slide(x: Any, kernel: Any, bias: Any) -> Any:
        x = x.movedim(-1, 1)
        x = x if same else f.pad(x, zeros)
        return convolve(x, kernel, bias, layer.strides, own, layer.dilation_rate, groups).movedim(1, -1)

    return slide


def _convolution(place: Place) -> Call:
    kernel, bias = place.name("kernel"), place.name("bias")
    slide = _slide(place, place.layer.groups)
    return behind(place.layer.activation, lambda p, x, training: slide(x, _kernel(p[kernel]), p.get(bias)))


def _by_channel(kernel: Any) -> Any:
    """Return a kernel (height, width, channels, multiplier) as that of a convolution with a group for each channel."""
    return kernel.flatten(-2).movedim(-1, 0)[:, None].contiguous()


def _depthwise(place: Place) -> Call:
    kernel, bias = place.name("kernel"), place.name("bias")
    slide = _slide(place, place.input_shape[-1])
    return behind(place.layer.activation, lambda p, x, training: slide(x, _by_channel(p[kernel]), p.get(bias)))


def _separable(place: Place) -> Call:
    from torch.nn import functional as f

    depthwise, pointwise, bias = (place.name(name) for name in ("depthwise_kernel", "pointwise_kernel", "bias"))
    slide = _slide(place, place.input_shape[-1])
    return behind(
        place.layer.activation,
        lambda p, x, training: f.linear(slide(x, _by_channel(p[depthwise]), None), p[pointwise][0, 0].t(), p.get(bias)),
    )


def _transposed(place: Place) -> Call:
    """PyTorch cuts as much off both ends: what is more at the end is cut off afterwards, what is less is added."""
    from torch.nn import functional as f

    kernel, bias, layer, axes = place.name("kernel"), place.name("bias"), place.layer, place.layer.axes
    before, after = paddings(layer.geometry(place.input_shape), axes)
    more = [max(first - last, 0) for first, last in zip(before, after, strict=True)]
    convolve = (f.conv_transpose1d, f.conv_transpose2d, f.conv_transpose3d)[axes - 1]
    inside = (slice(None), slice(None), *map(slice, place.output_shape[:-1]))

    def call(p: Mapping[str, Any], x: Any, training: bool) -> Any:
        y = convolve(
            x.movedim(-1, 1), _kernel(p[kernel]), p.get(bias), layer.strides, before, more, 1, layer.dilation_rate
        )
        return y[inside].movedim(1, -1)

    return behind(layer.activation, call)


LAYERS: Mapping[type[Layer], Make] = {
    **dict.fromkeys((Conv1D, Conv2D, Conv3D), _convolution),
    **dict.fromkeys((Conv1DTranspose, Conv2DTranspose, Conv3DTranspose), _transposed),
    DepthwiseConv2D: _depthwise,
    SeparableConv2D: _separable,
}

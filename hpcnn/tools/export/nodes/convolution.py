"""Convolutions: ONNX has the channels first, so that images are transposed before and after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hpcnn.nn.geometry import Geometry
from hpcnn.nn.layer import Layer, Shape
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
from hpcnn.tools.export.graph import KERNEL_TYPE, AddLayer, Graph, add_activation


def _channels_first(graph: Graph, tensor: str, axes: int, name: str) -> str:
    return graph.add("Transpose", tensor, name=name, perm=[0, axes + 1, *range(1, axes + 1)])


def _channels_last(graph: Graph, tensor: str, axes: int, name: str) -> str:
    return graph.add("Transpose", tensor, name=name, perm=[0, *range(2, axes + 2), 1])


def _kernel(graph: Graph, layer: Any, parameter: str, shape: Shape | None = None) -> str:
    """Return a kernel with its last two axes first: (filters, channels of a group, ...)."""
    kernel = graph.weight(f"{layer.name}/{parameter}")
    kernel = kernel if shape is None else kernel.reshape(shape)
    axes = range(kernel.ndim - 2)
    turned = np.ascontiguousarray(kernel.transpose(kernel.ndim - 1, kernel.ndim - 2, *axes), KERNEL_TYPE)
    return graph.constant(f"{layer.name}/{parameter}", turned)


def _settings(layer: Any, shape: Geometry) -> tuple[dict[str, Any], list[int]]:
    """Return the attributes of a convolution, or of a transposed one, and the inputs that it leaves out at the ends."""
    axes = layer.axes
    sides = zip(shape.inputs, shape.outputs, shape.kernel, shape.strides, shape.dilation, shape.before, strict=True)
    behind = [(o - 1) * s + (k - 1) * d + 1 - i - b for i, o, k, s, d, b in sides][-axes:]
    settings = {
        "kernel_shape": list(shape.kernel[-axes:]),
        "strides": list(shape.strides[-axes:]),
        "dilations": list(shape.dilation[-axes:]),
        "pads": [*shape.before[-axes:], *(max(zeros, 0) for zeros in behind)],
        "group": shape.groups,
    }
    return settings, [max(-zeros, 0) for zeros in behind]


def _bias(graph: Graph, layer: Any) -> list[str]:
    return [graph.parameter(f"{layer.name}/bias")] if layer.use_bias else []


def _finish(graph: Graph, layer: Any, tensor: str) -> str:
    z = _channels_last(graph, tensor, layer.axes, f"{layer.name}/channels_last")
    return add_activation(graph, layer.activation, z, layer.name)


def _convolution(graph: Graph, layer: Any, tensor: str, shape: Shape) -> str:
    name, found = layer.name, layer.geometry(shape)
    image = _channels_first(graph, tensor, layer.axes, f"{name}/channels_first")
    kernel = _kernel(graph, layer, "kernel", (*layer.kernel_size, shape[-1] // found.groups, -1))
    settings, _ = _settings(layer, found)
    made = graph.add("Conv", image, kernel, *_bias(graph, layer), name=f"{name}/convolved", **settings)
    return _finish(graph, layer, made)


def _separable(graph: Graph, layer: Any, tensor: str, shape: Shape) -> str:
    name, found = layer.name, layer.geometry(shape)
    image = _channels_first(graph, tensor, layer.axes, f"{name}/channels_first")
    kernel = _kernel(graph, layer, "depthwise_kernel", (*layer.kernel_size, 1, -1))
    settings, _ = _settings(layer, found)
    inner = graph.add("Conv", image, kernel, name=f"{name}/depthwise", **settings)
    pointwise = _kernel(graph, layer, "pointwise_kernel")
    return _finish(graph, layer, graph.add("Conv", inner, pointwise, *_bias(graph, layer), name=f"{name}/pointwise"))


def _transposed(graph: Graph, layer: Any, tensor: str, shape: Shape) -> str:
    name = layer.name
    settings, left_out = _settings(layer, layer.geometry(shape))
    image = _channels_first(graph, tensor, layer.axes, f"{name}/channels_first")
    kernel = _kernel(graph, layer, "kernel")
    made = graph.add(
        "ConvTranspose",
        image,
        kernel,
        *_bias(graph, layer),
        name=f"{name}/convolved",
        output_padding=left_out,
        **settings,
    )
    return _finish(graph, layer, made)


LAYERS: Mapping[type[Layer], AddLayer] = {
    **dict.fromkeys((Conv1D, Conv2D, Conv3D, DepthwiseConv2D), _convolution),
    **dict.fromkeys((Conv1DTranspose, Conv2DTranspose, Conv3DTranspose), _transposed),
    SeparableConv2D: _separable,
}

"""Pooling. ONNX has channels first: windows are moved there and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpcnn.nn.layer import Layer, Shape
from hpcnn.nn.layers import AveragePooling, GlobalAveragePooling, GlobalMaxPooling, MaxPooling
from hpcnn.nn.layers.spatial import for_each_axis
from hpcnn.tools.export.graph import AddLayer, Graph


def _windows(operation: str) -> AddLayer:
    def add(graph: Graph, layer: Any, tensor: str, shape: Shape) -> str:
        name, last, axes = layer.name, len(shape), shape[:-1]
        sizes = for_each_axis(layer, "pool_size", layer.pool_size, axes)
        strides = for_each_axis(layer, "strides", sizes if layer.strides is None else layer.strides, axes)
        tensor = graph.add("Transpose", tensor, name=f"{name}/channels_first", perm=[0, last, *range(1, last)])
        pooled = graph.add(
            operation,
            tensor,
            name=f"{name}/pooled",
            kernel_shape=sizes,
            strides=strides,
            pads=_pads(axes, sizes, strides, layer.padding),
        )
        return graph.add("Transpose", pooled, name=f"{name}/channels_last", perm=[0, *range(2, last + 1), 1])

    return add


def _pads(axes: Sequence[int], sizes: Sequence[int], strides: Sequence[int], padding: str) -> list[int]:
    """Return zeros before, then behind each axis: runtimes make negative ones of "same" for windows with gaps."""
    if padding == "valid":
        return [0] * (2 * len(axes))
    steps = [(length - 1) // stride * stride for length, stride in zip(axes, strides, strict=True)]
    zeros = [max(step + size - length, 0) for step, size, length in zip(steps, sizes, axes, strict=True)]
    return [*(number // 2 for number in zeros), *(number - number // 2 for number in zeros)]


def _whole(operation: str) -> AddLayer:
    def add(graph: Graph, layer: Any, tensor: str, shape: Shape) -> str:
        axes = list(range(1, len(shape)))
        return graph.add(operation, tensor, name=f"{layer.name}/pooled", axes=axes, keepdims=int(layer.keepdims))

    return add


LAYERS: Mapping[type[Layer], AddLayer] = {
    MaxPooling: _windows("MaxPool"),
    AveragePooling: _windows("AveragePool"),
    GlobalMaxPooling: _whole("ReduceMax"),
    GlobalAveragePooling: _whole("ReduceMean"),
}

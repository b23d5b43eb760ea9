"""Layers that move, leave out or repeat entries, noise, and rectifiers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hpcnn.nn.axis_maps import AxisMap, interpolated
from hpcnn.nn.layer import Layer, Shape
from hpcnn.nn.layers import (
    ELU,
    Cropping,
    GaussianNoise,
    LeakyReLU,
    Permute,
    PReLU,
    RepeatVector,
    SpatialDropout,
    UpSampling,
    ZeroPadding,
)
from hpcnn.nn.layers.spatial import for_each_axis, pairs_for_each_axis
from hpcnn.tools.export.graph import KERNEL_TYPE, AddLayer, Graph


def _zero_padding(graph: Graph, layer: Any, tensor: str, shape: Shape) -> str:
    pairs = [(0, 0), *pairs_for_each_axis(layer, "padding", layer.padding, shape[:-1]), (0, 0)]
    pads = np.array([before for before, _ in pairs] + [after for _, after in pairs], np.int64)
    return graph.add("Pad", tensor, graph.constant(f"{layer.name}/pads", pads), name=f"{layer.name}/padded")


def _cropping(graph: Graph, layer: Any, tensor: str, shape: Shape) -> str:
    pairs = pairs_for_each_axis(layer, "cropping", layer.cropping, shape[:-1])
    starts = np.array([before for before, _ in pairs], np.int64)
    ends = np.array([length - after for length, (_, after) in zip(shape, pairs, strict=False)], np.int64)
    given = {"starts": starts, "ends": ends, "axes": np.arange(1, len(shape))}
    inputs = [graph.constant(f"{layer.name}/{name}", value) for name, value in given.items()]
    return graph.add("Slice", tensor, *inputs, name=f"{layer.name}/cropped")


def _up_sampling(graph: Graph, layer: Any, tensor: str, shape: Shape) -> str:
    name = layer.name
    for axis, times in enumerate(for_each_axis(layer, "size", layer.size, shape[:-1]), 1):
        if layer.interpolation == "bilinear":
            tensor = _product(graph, f"{name}/{axis}", tensor, axis, len(shape), interpolated(shape[axis - 1], times))
        else:
            places = graph.constant(f"{name}/places/{axis}", np.repeat(np.arange(shape[axis - 1]), times))
            tensor = graph.add("Gather", tensor, places, name=f"{name}/repeated/{axis}", axis=axis)
    return tensor


def _product(graph: Graph, name: str, tensor: str, axis: int, axes: int, axis_map: AxisMap) -> str:
    """Add a product of the map's matrix and `tensor` along an axis, which is the last of the product for a while."""
    order = [*(each for each in range(axes + 1) if each != axis), axis]
    moved = graph.add("Transpose", tensor, name=f"{name}/moved", perm=order)
    matrix = graph.constant(f"{name}/matrix", axis_map.matrix().T.astype(KERNEL_TYPE))
    product = graph.add("MatMul", moved, matrix, name=f"{name}/product")
    return graph.add("Transpose", product, name=f"{name}/back", perm=np.argsort(order).tolist())


def _permute(graph: Graph, layer: Any, tensor: str, shape: Shape) -> str:
    return graph.add("Transpose", tensor, name=f"{layer.name}/permuted", perm=[0, *layer.dims])


def _repeat_vector(graph: Graph, layer: Any, tensor: str, shape: Shape) -> str:
    axis = graph.constant(f"{layer.name}/axis", np.array([1]))
    row = graph.add("Unsqueeze", tensor, axis, name=f"{layer.name}/row")
    times = graph.constant(f"{layer.name}/times", np.array([1, layer.n, 1]))
    return graph.add("Tile", row, times, name=f"{layer.name}/repeated")


def _prelu(graph: Graph, layer: Any, tensor: str, shape: Shape) -> str:
    return graph.add("PRelu", tensor, graph.parameter(f"{layer.name}/alpha"), name=f"{layer.name}/rectified")


def _leaky_relu(graph: Graph, layer: Any, tensor: str, shape: Shape) -> str:
    return graph.add("LeakyRelu", tensor, name=f"{layer.name}/rectified", alpha=layer.negative_slope)


def _elu(graph: Graph, layer: Any, tensor: str, shape: Shape) -> str:
    return graph.add("Elu", tensor, name=f"{layer.name}/rectified", alpha=layer.alpha)


def _nothing(graph: Graph, layer: Any, tensor: str, shape: Shape) -> str:
    return tensor  # it does something in training alone


LAYERS: Mapping[type[Layer], AddLayer] = {
    ZeroPadding: _zero_padding,
    Cropping: _cropping,
    UpSampling: _up_sampling,
    Permute: _permute,
    RepeatVector: _repeat_vector,
    SpatialDropout: _nothing,
    GaussianNoise: _nothing,
    PReLU: _prelu,
    LeakyReLU: _leaky_relu,
    ELU: _elu,
}

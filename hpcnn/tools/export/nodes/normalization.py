"""Normalisations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from hpcnn.nn.layer import Layer, Shape
from hpcnn.nn.layers import BatchNormalization, GroupNormalization, LayerNorm, RMSNormalization
from hpcnn.tools.export.graph import KERNEL_TYPE, AddLayer, Graph


def _layer_norm(graph: Graph, layer: Any, tensor: str, shape: Shape) -> str:
    name = layer.name
    one = np.ones(shape[-1:], KERNEL_TYPE)  # the operation demands a scale
    gamma = graph.parameter(f"{name}/gamma") if layer.scale else graph.constant(f"{name}/one", one)
    beta = [graph.parameter(f"{name}/beta")] if layer.center else []
    return graph.add("LayerNormalization", tensor, gamma, *beta, name=f"{name}/normal", axis=-1, epsilon=layer.epsilon)


def _batch_normalization(graph: Graph, layer: Any, tensor: str, shape: Shape) -> str:
    """Add it in three operations: that of ONNX wants the channels first."""
    name = layer.name
    scale = 1 / np.sqrt(graph.weight(f"{name}/moving_variance").astype(np.float64) + layer.epsilon)
    if layer.scale:
        scale *= graph.weight(f"{name}/gamma").astype(np.float64)
    centred = graph.add("Sub", tensor, graph.parameter(f"{name}/moving_mean"), name=f"{name}/centred")
    factor = graph.constant(f"{name}/factor", scale.astype(KERNEL_TYPE))
    return _shifted(graph, layer, graph.add("Mul", centred, factor, name=f"{name}/scaled"))


def _group_normalization(graph: Graph, layer: Any, tensor: str, shape: Shape) -> str:
    name, channels = layer.name, shape[-1]
    groups = channels if layer.groups == -1 else layer.groups
    split = np.array([-1, math.prod(shape[:-1]), groups, channels // groups], np.int64)
    x = graph.add("Reshape", tensor, graph.constant(f"{name}/split", split), name=f"{name}/grouped")
    mean = graph.add("ReduceMean", x, name=f"{name}/mean", axes=[1, 3], keepdims=1)
    centred = graph.add("Sub", x, mean, name=f"{name}/centred")
    normal = _by_root_mean_square(graph, layer, centred, [1, 3])
    whole = graph.constant(f"{name}/whole", np.array([-1, *shape], np.int64))
    y = graph.add("Reshape", normal, whole, name=f"{name}/normal")
    if layer.scale:
        y = graph.add("Mul", y, graph.parameter(f"{name}/gamma"), name=f"{name}/scaled")
    return _shifted(graph, layer, y)


def _rms_normalization(graph: Graph, layer: Any, tensor: str, shape: Shape) -> str:
    normal = _by_root_mean_square(graph, layer, tensor, [-1])
    return graph.add("Mul", normal, graph.parameter(f"{layer.name}/scale"), name=f"{layer.name}/scaled")


def _by_root_mean_square(graph: Graph, layer: Any, tensor: str, axes: list[int]) -> str:
    """Divide `tensor` by sqrt(mean of its squares over `axes` + epsilon)."""
    name = layer.name
    square = graph.add("Mul", tensor, tensor, name=f"{name}/square")
    mean = graph.add("ReduceMean", square, name=f"{name}/mean_square", axes=axes, keepdims=1)
    root = graph.add(
        "Sqrt", graph.add("Add", mean, graph.number(layer.epsilon), name=f"{name}/sum"), name=f"{name}/root"
    )
    return graph.add("Div", tensor, root, name=f"{name}/divided")


def _shifted(graph: Graph, layer: Any, tensor: str) -> str:
    if not layer.center:
        return tensor
    return graph.add("Add", tensor, graph.parameter(f"{layer.name}/beta"), name=f"{layer.name}/shifted")


LAYERS: Mapping[type[Layer], AddLayer] = {
    LayerNorm: _layer_norm,
    BatchNormalization: _batch_normalization,
    GroupNormalization: _group_normalization,
    RMSNormalization: _rms_normalization,
}

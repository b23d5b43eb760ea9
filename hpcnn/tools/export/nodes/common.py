"""Dense layers, activations, shapes and dropout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hpcnn.nn.layer import Layer, Shape
from hpcnn.nn.layers import Activation, Dense, Dropout, Flatten, Reshape
from hpcnn.tools.export.graph import AddLayer, Graph, add_activation


def _dense(graph: Graph, layer: Any, tensor: str, shape: Shape) -> str:
    name = layer.name
    z = graph.add("MatMul", tensor, graph.parameter(f"{name}/kernel"), name=f"{name}/product")
    if layer.use_bias:
        z = graph.add("Add", z, graph.parameter(f"{name}/bias"), name=f"{name}/logits")
    return add_activation(graph, layer.activation, z, name)


def _activation(graph: Graph, layer: Any, tensor: str, shape: Shape) -> str:
    return add_activation(graph, layer.activation, tensor, layer.name)


def _reshape(graph: Graph, layer: Layer, tensor: str, shape: Shape) -> str:
    new = np.array([-1, *layer.output_shape(shape)], np.int64)
    return graph.add("Reshape", tensor, graph.constant(f"{layer.name}/shape", new), name=f"{layer.name}/reshaped")


def _dropout(graph: Graph, layer: Layer, tensor: str, shape: Shape) -> str:
    return tensor  # it does something in training alone


LAYERS: Mapping[type[Layer], AddLayer] = {
    Dense: _dense,
    Activation: _activation,
    Flatten: _reshape,
    Reshape: _reshape,
    Dropout: _dropout,
}

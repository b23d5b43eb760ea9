"""A network as ONNX operations: each layer by its kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hpcnn.errors import ModelError
from hpcnn.nn.layer import Layer, Shape
from hpcnn.nn.layers import Residual, TimeDistributed
from hpcnn.nn.network import Network
from hpcnn.tools.export.graph import AddLayer, Graph, add_activation
from hpcnn.tools.export.nodes import common, normalization, recurrent


def add_network(graph: Graph, network: Network, tensor: str) -> str:
    """Add all layers and the head behind `tensor`, and return the tensor of the outputs."""
    shape = network.input_shape
    for layer in network.layers:
        tensor, shape = _add_layer(graph, layer, tensor, shape)
    return add_activation(graph, network.head, tensor, "network/head")


def _add_layer(graph: Graph, layer: Layer, tensor: str, shape: Shape) -> tuple[str, Shape]:
    """Add a layer for samples of `shape`; return the tensor of its output, and the shape of that."""
    made = LAYERS.get(type(layer))
    if made is None:
        known = ", ".join(kind.__name__ for kind in LAYERS)
        raise ModelError(
            f"layer {layer.name!r} is a {type(layer).__name__}, which can't be written as ONNX. Known: {known}. "
            "--format npz writes the weights of any model."
        )
    return made(graph, layer, tensor, shape), layer.output_shape(shape)


def _residual(graph: Graph, layer: Any, tensor: str, shape: Shape) -> str:
    inner = tensor
    for each in layer.layers:
        inner, shape = _add_layer(graph, each, inner, shape)
    return graph.add("Add", tensor, inner, name=f"{layer.name}/sum")


def _time_distributed(graph: Graph, layer: Any, tensor: str, shape: Shape) -> str:
    """Take each step for a sample, and put the steps together again."""
    name = layer.name
    apart = graph.constant(f"{name}/step", np.array([-1, *shape[1:]], np.int64))
    tensor = graph.add("Reshape", tensor, apart, name=f"{name}/apart")
    tensor, inner_shape = _add_layer(graph, layer.inner, tensor, shape[1:])
    together = graph.constant(f"{name}/steps", np.array([-1, shape[0], *inner_shape], np.int64))
    return graph.add("Reshape", tensor, together, name=f"{name}/together")


LAYERS: Mapping[type[Layer], AddLayer] = {
    **common.LAYERS,
    **normalization.LAYERS,
    **recurrent.LAYERS,
    Residual: _residual,
    TimeDistributed: _time_distributed,
}

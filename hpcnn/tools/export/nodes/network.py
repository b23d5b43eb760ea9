"""A network as ONNX operations: each layer by its kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hpcnn.errors import ModelError
from hpcnn.nn.layer import Layer, MultiInput
from hpcnn.nn.layers import TimeDistributed
from hpcnn.nn.network import Network
from hpcnn.tools.export.graph import AddLayer, Graph, add_activation
from hpcnn.tools.export.nodes import (
    attention,
    common,
    convolution,
    merging,
    normalization,
    pooling,
    recurrent,
    shapes,
    spectral,
)


def add_network(graph: Graph, network: Network, tensor: str) -> str:
    """Add all layers and the head behind `tensor`, and return the tensor of the outputs."""
    outputs: list[str] = []
    for node in network.nodes:
        graph.shared = node.shared
        given = [tensor if source < 0 else outputs[source] for source in node.sources]
        outputs.append(_add_layer(graph, node.layer, given, node.given_shape))
    return add_activation(graph, network.head, outputs[-1], "network/head")


def _add_layer(graph: Graph, layer: Layer, given: list[str], shape: Any) -> str:
    """Add a layer for samples of `shape`, or of one for each input; return the tensor of its output."""
    made = LAYERS.get(type(layer))
    if made is None:
        known = ", ".join(kind.__name__ for kind in LAYERS)
        raise ModelError(
            f"layer {layer.name!r} is a {type(layer).__name__}, which can't be written as ONNX. Known: {known}. "
            "--format npz writes the weights of any model."
        )
    return made(graph, layer, given if isinstance(layer, MultiInput) else given[0], shape)


def _time_distributed(graph: Graph, layer: Any, tensor: str, shape: Any) -> str:
    """Take each step for a sample, and put the steps together again."""
    name = layer.name
    apart = graph.constant(f"{name}/step", np.array([-1, *shape[1:]], np.int64))
    tensor = graph.add("Reshape", tensor, apart, name=f"{name}/apart")
    tensor = _add_layer(graph, layer.inner, [tensor], shape[1:])
    steps = np.array([-1, *layer.output_shape(shape)], np.int64)
    return graph.add("Reshape", tensor, graph.constant(f"{name}/steps", steps), name=f"{name}/together")


LAYERS: Mapping[type[Layer], AddLayer] = {
    **common.LAYERS,
    **normalization.LAYERS,
    **merging.LAYERS,
    **convolution.LAYERS,
    **pooling.LAYERS,
    **shapes.LAYERS,
    **attention.LAYERS,
    **recurrent.LAYERS,
    **spectral.LAYERS,
    TimeDistributed: _time_distributed,
}

"""A network as ONNX operations: each layer by its kind."""

from __future__ import annotations

from collections.abc import Mapping

from hpcnn.errors import ModelError
from hpcnn.nn.graph import Node
from hpcnn.nn.layer import Layer, MultiInput
from hpcnn.nn.network import Network
from hpcnn.tools.export.graph import AddLayer, Graph, add_activation
from hpcnn.tools.export.nodes import attention, common, convolution, merging, normalization, pooling, shapes


def add_network(graph: Graph, network: Network, tensor: str) -> str:
    """Add all layers and the head behind `tensor`, and return the tensor of the outputs."""
    outputs: list[str] = []
    for node in network.nodes:
        graph.shared = node.shared
        given = [tensor if source < 0 else outputs[source] for source in node.sources]
        outputs.append(_add_node(graph, node, given))
    return add_activation(graph, network.head, outputs[-1], "network/head")


def _add_node(graph: Graph, node: Node, given: list[str]) -> str:
    layer = node.layer
    made = LAYERS.get(type(layer))
    if made is None:
        known = ", ".join(kind.__name__ for kind in LAYERS)
        raise ModelError(
            f"layer {layer.name!r} is a {type(layer).__name__}, which can't be written as ONNX. Known: {known}. "
            "--format npz writes the weights of any model."
        )
    return made(graph, layer, given if isinstance(layer, MultiInput) else given[0], node.given_shape)


LAYERS: Mapping[type[Layer], AddLayer] = {
    **common.LAYERS,
    **normalization.LAYERS,
    **merging.LAYERS,
    **convolution.LAYERS,
    **pooling.LAYERS,
    **shapes.LAYERS,
    **attention.LAYERS,
}

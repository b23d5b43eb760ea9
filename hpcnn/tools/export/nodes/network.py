"""A network as ONNX operations: each layer by its kind."""

from __future__ import annotations

from collections.abc import Mapping

from hpcnn.errors import ModelError
from hpcnn.nn.graph import Node
from hpcnn.nn.layer import Layer, MultiInput
from hpcnn.nn.layers.parts import InputPart, OutputRow
from hpcnn.nn.network import Network
from hpcnn.tools.export.graph import AddLayer, Graph, add_activation
from hpcnn.tools.export.nodes import attention, common, convolution, merging, normalization, pooling, shapes


def add_network(graph: Graph, network: Network, inputs: Mapping[str, str]) -> list[str]:
    """Add all layers and heads behind the tensors of the inputs, and return the tensor of each output."""
    outputs: list[str] = []
    for node in network.nodes:
        graph.shared = node.shared
        if isinstance(node.layer, InputPart):
            outputs.append(inputs[node.layer.name])
        elif isinstance(node.layer, OutputRow):
            ends = zip(network.outputs, node.sources, strict=True)
            return [
                add_activation(graph, output.head, outputs[source], f"network/head/{output.name}")
                for output, source in ends
            ]
        else:
            given = [outputs[source] if source >= 0 else next(iter(inputs.values())) for source in node.sources]
            outputs.append(_add_node(graph, node, given))
    return [add_activation(graph, network.head, outputs[-1], "network/head")]


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

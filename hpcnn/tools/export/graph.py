"""A network as an ONNX graph of operations that every runtime supports."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcnn.errors import ModelError
from hpcnn.nn.activations import LEAKY_RELU_SLOPE, SELU_ALPHA, SELU_SCALE
from hpcnn.nn.layer import Layer, Shape
from hpcnn.nn.layers import Activation, Dense, Dropout, Flatten, Reshape, Residual
from hpcnn.nn.network import Network
from hpcnn.nn.normalization import LayerNorm

Array = NDArray[Any]
KERNEL_TYPE = np.float32
"""Type of the computation: runtimes lack many operations in float64."""


class Graph:
    """Nodes and constants in the order in which they were added. Tensors go by their names."""

    def __init__(self, weights: Mapping[str, Array]) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Array] = {}
        self._weights = weights

    def parameter(self, name: str) -> str:
        """Return the tensor of a parameter of the model."""
        return self.constant(name, self._weights[name].astype(KERNEL_TYPE))

    def constant(self, name: str, value: Array) -> str:
        """Return the tensor of a value that never changes."""
        self.constants[name] = value
        return name

    def number(self, value: float) -> str:
        """Return the tensor of a single number."""
        return self.constant(f"network/{value!r}", np.array(value, KERNEL_TYPE))

    def add(self, operation: str, *inputs: str, name: str, **attributes: Any) -> str:
        """Add an operation, and return the tensor of its output, which has its name."""
        from onnx import helper

        self.nodes.append(helper.make_node(operation, inputs, [name], name=name, **attributes))
        return name


def add_network(graph: Graph, network: Network, tensor: str) -> str:
    """Add all layers and the head behind `tensor`, and return the tensor of the outputs."""
    shape = network.input_shape
    for layer in network.layers:
        tensor, shape = _add_layer(graph, layer, tensor, shape)
    return add_activation(graph, network.head, tensor, "network/head")


def add_scaling(graph: Graph, shift: Array, scale: Array, tensor: str) -> str:
    """Add what inputs go through before the network: computed in float64, as in training."""
    from onnx import TensorProto

    double = graph.add("Cast", tensor, name="network/scaling/double", to=TensorProto.DOUBLE)
    centred = graph.add("Sub", double, graph.constant("network/scaling/shift", shift), name="network/scaling/centred")
    scaled = graph.add("Mul", centred, graph.constant("network/scaling/scale", scale), name="network/scaling/scaled")
    return graph.add("Cast", scaled, name="network/scaling/inputs", to=TensorProto.FLOAT)


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


def _layer_norm(graph: Graph, layer: Any, tensor: str, shape: Shape) -> str:
    name = layer.name
    one = np.ones(shape[-1:], KERNEL_TYPE)  # the operation demands a scale
    gamma = graph.parameter(f"{name}/gamma") if layer.scale else graph.constant(f"{name}/one", one)
    beta = [graph.parameter(f"{name}/beta")] if layer.center else []
    return graph.add("LayerNormalization", tensor, gamma, *beta, name=f"{name}/normal", axis=-1, epsilon=layer.epsilon)


def _residual(graph: Graph, layer: Any, tensor: str, shape: Shape) -> str:
    inner = tensor
    for each in layer.layers:
        inner, shape = _add_layer(graph, each, inner, shape)
    return graph.add("Add", tensor, inner, name=f"{layer.name}/sum")


LAYERS: Mapping[type[Layer], Callable[[Graph, Any, str, Shape], str]] = {
    Dense: _dense,
    Activation: _activation,
    Flatten: _reshape,
    Reshape: _reshape,
    Dropout: _dropout,
    LayerNorm: _layer_norm,
    Residual: _residual,
}
"""``(graph, layer, tensor, shape) -> tensor``."""


def add_activation(graph: Graph, activation: str, tensor: str, owner: str) -> str:
    """Add an activation behind `tensor`, and return the tensor of its output. A linear one adds nothing."""
    name = f"{owner}/{activation}"
    if activation == "linear":
        return tensor
    if activation == "gelu":  # z / 2 (1 + erf(z / sqrt(2))): an operation of its own only in newer versions
        root = graph.add("Mul", tensor, graph.number(math.sqrt(0.5)), name=f"{name}/scaled")
        erf = graph.add("Erf", root, name=f"{name}/erf")
        share = graph.add("Add", erf, graph.number(1.0), name=f"{name}/share")
        half = graph.add("Mul", tensor, graph.number(0.5), name=f"{name}/half")
        return graph.add("Mul", half, share, name=name)
    if activation == "swish":
        gate = graph.add("Sigmoid", tensor, name=f"{name}/gate")
        return graph.add("Mul", tensor, gate, name=name)
    operation, attributes = ACTIVATIONS[activation]
    return graph.add(operation, tensor, name=name, **attributes)


ACTIVATIONS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "relu": ("Relu", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": LEAKY_RELU_SLOPE}),
    "elu": ("Elu", {"alpha": 1.0}),
    "selu": ("Selu", {"alpha": SELU_ALPHA, "gamma": SELU_SCALE}),
    "softplus": ("Softplus", {}),
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
    "softmax": ("Softmax", {"axis": -1}),
}
"""Those that are one operation, with its settings."""

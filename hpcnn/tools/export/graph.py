"""An ONNX graph of operations that every runtime supports."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcnn.nn.activations import LEAKY_RELU_SLOPE, SELU_ALPHA, SELU_SCALE

Array = NDArray[Any]
KERNEL_TYPE = np.float32
"""Type of the computation: runtimes lack many operations in float64."""


class Graph:
    """Nodes and constants in the order in which they were added. Tensors go by their names."""

    def __init__(self, weights: Mapping[str, Array]) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Array] = {}
        self._weights = weights
        self.shared: Mapping[str, str] = {}
        """The names, in the model, of parameters that the layer at hand shares with others."""

    def parameter(self, name: str) -> str:
        """Return the tensor of a parameter of the model."""
        return self.constant(name, self.weight(name).astype(KERNEL_TYPE))

    def weight(self, name: str) -> Array:
        """Return a parameter of the model itself."""
        return self._weights[self.shared.get(name, name)]

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


AddLayer = Callable[[Graph, Any, Any, Any], str]
"""``(graph, layer, tensor, shape of its samples) -> tensor of the outputs``; of several inputs, lists of both."""


def add_scaling(graph: Graph, shift: Array, scale: Array, tensor: str, owner: str = "network") -> str:
    """Add what inputs go through before the network: computed in float64, as in training."""
    from onnx import TensorProto

    double = graph.add("Cast", tensor, name=f"{owner}/scaling/double", to=TensorProto.DOUBLE)
    centred = graph.add("Sub", double, graph.constant(f"{owner}/scaling/shift", shift), name=f"{owner}/scaling/centred")
    scaled = graph.add("Mul", centred, graph.constant(f"{owner}/scaling/scale", scale), name=f"{owner}/scaling/scaled")
    return graph.add("Cast", scaled, name=f"{owner}/scaling/inputs", to=TensorProto.FLOAT)


def undo_scaling(graph: Graph, shift: Array, scale: Array, tensor: str) -> str:
    """Add what brings outputs into the units of the targets, in float64."""
    from onnx import TensorProto

    owner = "network/target_scaling"
    double = graph.add("Cast", tensor, name=f"{owner}/double", to=TensorProto.DOUBLE)
    widened = graph.add("Div", double, graph.constant(f"{owner}/scale", scale), name=f"{owner}/widened")
    shifted = graph.add("Add", widened, graph.constant(f"{owner}/shift", shift), name=f"{owner}/shifted")
    return graph.add("Cast", shifted, name=f"{owner}/outputs", to=TensorProto.FLOAT)


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

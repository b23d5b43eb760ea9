"""What makes functions of tensors of layers, and activations by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hpcnn.nn.activations import LEAKY_RELU_SLOPE
from hpcnn.nn.layer import Layer, Shape

Call = Callable[[Mapping[str, Any], Any, bool], Any]
"""``(parameters, x, training) -> y`` with parameters by the names that they have in the network; of a layer of several
inputs, x is a list."""


@dataclass(frozen=True)
class Place:
    """A layer at its place in a network."""

    layer: Any
    """A `Layer`."""
    input_shape: Any
    """Of one sample; one shape for each input where a layer has several."""
    output_shape: Shape
    dtype: str
    """Of parameters and inputs."""
    shared: Mapping[str, str] = field(default_factory=dict)
    """The names in the network of parameters that another layer has."""

    def name(self, parameter: str) -> str:
        """Return the name in the network of a parameter of the layer."""
        name = f"{self.layer.name}/{parameter}"
        return self.shared.get(name, name)

    def inner(self, layer: Layer, input_shape: Shape) -> Place:
        """Return the place of a layer within this one, which takes samples of `input_shape`."""
        return Place(layer, input_shape, layer.output_shape(input_shape), self.dtype, self.shared)


Make = Callable[[Place], Call]


def stateless(function: Callable[[Any], Any]) -> Call:
    """Return a function of tensors alone as one of parameters, tensors and mode."""
    return lambda p, x, training: function(x)


def activation(name: str) -> Callable[[Any], Any] | None:
    """Return the activation of that name; None if it is linear."""
    import torch
    from torch.nn import functional as f

    known: dict[str, Callable[[Any], Any] | None] = {
        "linear": None,
        "relu": torch.relu,
        "leaky_relu": lambda z: f.leaky_relu(z, LEAKY_RELU_SLOPE),
        "elu": f.elu,
        "selu": torch.selu,
        "gelu": f.gelu,
        "swish": f.silu,
        "softplus": lambda z: f.softplus(z, threshold=40.0),  # torch's default of 20 is inexact in float64
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "softmax": lambda z: torch.softmax(z, -1),
    }
    return known[name]


def behind(name: str, function: Call) -> Call:
    """Return a function with the activation of that name behind it."""
    act = activation(name)
    return function if act is None else lambda p, x, training: act(function(p, x, training))

"""Neural networks in NumPy: layers, losses and one flat vector of parameters. Pure mathematics, no communication."""

from hpcnn.nn.context import Context
from hpcnn.nn.layer import Backward, Layer, MultiBackward, MultiInput, Params, Shape
from hpcnn.nn.layers import Activation, Dense, Dropout, Flatten, LayerNorm, Reshape, Residual
from hpcnn.nn.network import Network
from hpcnn.nn.params import ParamLayout, ParamSpec
from hpcnn.nn.workspace import Array

__all__ = [
    "Activation",
    "Array",
    "Backward",
    "Context",
    "Dense",
    "Dropout",
    "Flatten",
    "Layer",
    "LayerNorm",
    "MultiBackward",
    "MultiInput",
    "Network",
    "ParamLayout",
    "ParamSpec",
    "Params",
    "Reshape",
    "Residual",
    "Shape",
]

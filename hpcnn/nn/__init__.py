"""Neural networks in NumPy: layers, losses and one flat vector of parameters. Pure mathematics, no communication."""

from hpcnn.nn.context import Context
from hpcnn.nn.layer import Backward, Layer, Params, Shape
from hpcnn.nn.layers import (
    Activation,
    BatchNormalization,
    Dense,
    Dropout,
    Flatten,
    GroupNormalization,
    LayerNorm,
    Reshape,
    Residual,
    RMSNormalization,
)
from hpcnn.nn.network import Network
from hpcnn.nn.params import ParamLayout, ParamSpec
from hpcnn.nn.workspace import Array

__all__ = [
    "Activation",
    "Array",
    "Backward",
    "BatchNormalization",
    "Context",
    "Dense",
    "Dropout",
    "Flatten",
    "GroupNormalization",
    "Layer",
    "LayerNorm",
    "Network",
    "ParamLayout",
    "ParamSpec",
    "Params",
    "RMSNormalization",
    "Reshape",
    "Residual",
    "Shape",
]

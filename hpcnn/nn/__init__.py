"""Neural networks in NumPy: layers, losses and one flat vector of parameters. Pure mathematics, no communication."""

from hpcnn.nn.context import Context
from hpcnn.nn.layer import Backward, Layer, Params, Shape
from hpcnn.nn.layers import (
    GRU,
    LSTM,
    Activation,
    Bidirectional,
    Dense,
    Dropout,
    Flatten,
    LayerNorm,
    Reshape,
    Residual,
    SimpleRNN,
    TimeDistributed,
)
from hpcnn.nn.network import Network
from hpcnn.nn.params import ParamLayout, ParamSpec
from hpcnn.nn.workspace import Array

__all__ = [
    "GRU",
    "LSTM",
    "Activation",
    "Array",
    "Backward",
    "Bidirectional",
    "Context",
    "Dense",
    "Dropout",
    "Flatten",
    "Layer",
    "LayerNorm",
    "Network",
    "ParamLayout",
    "ParamSpec",
    "Params",
    "Reshape",
    "Residual",
    "Shape",
    "SimpleRNN",
    "TimeDistributed",
]

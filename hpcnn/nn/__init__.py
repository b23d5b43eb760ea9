"""Neural networks in NumPy: layers, losses and one flat vector of parameters. Pure mathematics, no communication."""

from hpcnn.nn.context import Context
from hpcnn.nn.layer import Backward, Layer, MultiBackward, MultiInput, Params, Shape
from hpcnn.nn.layers import (
    Activation,
    CrossAttention,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    LayerNorm,
    MultiHeadAttention,
    PaddingMask,
    PositionalEmbedding,
    Reshape,
    Residual,
)
from hpcnn.nn.network import Network
from hpcnn.nn.params import ParamLayout, ParamSpec
from hpcnn.nn.workspace import Array

__all__ = [
    "Activation",
    "Array",
    "Backward",
    "Context",
    "CrossAttention",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "Layer",
    "LayerNorm",
    "MultiBackward",
    "MultiHeadAttention",
    "MultiInput",
    "Network",
    "PaddingMask",
    "ParamLayout",
    "ParamSpec",
    "Params",
    "PositionalEmbedding",
    "Reshape",
    "Residual",
    "Shape",
]

"""Neural networks in NumPy: layers, losses and one flat vector of parameters. Pure mathematics, no communication."""

from hpcnn.nn.context import Context
from hpcnn.nn.layer import Backward, Layer, MultiBackward, MultiInput, Params, Shape
from hpcnn.nn.layers import (
    Activation,
    BatchNormalization,
    Block,
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    Conv3D,
    Conv3DTranspose,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GroupNormalization,
    LayerNorm,
    Reshape,
    Residual,
    RMSNormalization,
    SeparableConv2D,
    Shared,
)
from hpcnn.nn.network import Network
from hpcnn.nn.params import ParamLayout, ParamSpec
from hpcnn.nn.workspace import Array

__all__ = [
    "Activation",
    "Array",
    "Backward",
    "BatchNormalization",
    "Block",
    "Context",
    "Conv1D",
    "Conv1DTranspose",
    "Conv2D",
    "Conv2DTranspose",
    "Conv3D",
    "Conv3DTranspose",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "Flatten",
    "GroupNormalization",
    "Layer",
    "LayerNorm",
    "MultiBackward",
    "MultiInput",
    "Network",
    "ParamLayout",
    "ParamSpec",
    "Params",
    "RMSNormalization",
    "Reshape",
    "Residual",
    "SeparableConv2D",
    "Shape",
    "Shared",
]

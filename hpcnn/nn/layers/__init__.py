"""The layers. Definitions and defaults are those of Keras 3."""

from hpcnn.nn.layers.batch_normalization import BatchNormalization
from hpcnn.nn.layers.blocks import Block, Residual, Shared
from hpcnn.nn.layers.convolution import Conv1D, Conv1DTranspose, Conv2D, Conv2DTranspose, Conv3D, Conv3DTranspose
from hpcnn.nn.layers.dense import Activation, Dense
from hpcnn.nn.layers.depthwise import DepthwiseConv2D, SeparableConv2D
from hpcnn.nn.layers.group_normalization import GroupNormalization
from hpcnn.nn.layers.noise import Dropout
from hpcnn.nn.layers.normalization import LayerNorm, RMSNormalization
from hpcnn.nn.layers.shapes import Flatten, Reshape

__all__ = [
    "Activation",
    "BatchNormalization",
    "Block",
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
    "LayerNorm",
    "RMSNormalization",
    "Reshape",
    "Residual",
    "SeparableConv2D",
    "Shared",
]

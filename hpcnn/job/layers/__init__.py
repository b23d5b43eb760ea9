"""`[[model.layers]]`: the settings of layers, family by family."""

from hpcnn.job.layers.base import LayerSection
from hpcnn.job.layers.convolution import (
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    Conv3D,
    Conv3DTranspose,
    DepthwiseConv2D,
    SeparableConv2D,
    SlidingSection,
)
from hpcnn.job.layers.dense import ActivationLayer, Dense
from hpcnn.job.layers.kinds import Block, Layer, Residual, Shared
from hpcnn.job.layers.noise import Dropout
from hpcnn.job.layers.normalization import BatchNormalization, GroupNormalization, LayerNorm, RMSNormalization
from hpcnn.job.layers.shapes import Flatten, Reshape

__all__ = [
    "ActivationLayer",
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
    "Layer",
    "LayerNorm",
    "LayerSection",
    "RMSNormalization",
    "Reshape",
    "Residual",
    "SeparableConv2D",
    "Shared",
    "SlidingSection",
]

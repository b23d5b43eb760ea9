"""`[[model.layers]]`: the settings of layers, family by family."""

from hpcnn.job.layers.base import LayerSection
from hpcnn.job.layers.dense import ActivationLayer, Dense
from hpcnn.job.layers.kinds import Layer, Residual
from hpcnn.job.layers.noise import Dropout
from hpcnn.job.layers.normalization import BatchNormalization, GroupNormalization, LayerNorm, RMSNormalization
from hpcnn.job.layers.shapes import Flatten, Reshape

__all__ = [
    "ActivationLayer",
    "BatchNormalization",
    "Dense",
    "Dropout",
    "Flatten",
    "GroupNormalization",
    "Layer",
    "LayerNorm",
    "LayerSection",
    "RMSNormalization",
    "Reshape",
    "Residual",
]

"""The layers. Definitions and defaults are those of Keras 3."""

from hpcnn.nn.layers.batch_normalization import BatchNormalization
from hpcnn.nn.layers.blocks import Residual
from hpcnn.nn.layers.dense import Activation, Dense
from hpcnn.nn.layers.group_normalization import GroupNormalization
from hpcnn.nn.layers.noise import Dropout
from hpcnn.nn.layers.normalization import LayerNorm, RMSNormalization
from hpcnn.nn.layers.shapes import Flatten, Reshape

__all__ = [
    "Activation",
    "BatchNormalization",
    "Dense",
    "Dropout",
    "Flatten",
    "GroupNormalization",
    "LayerNorm",
    "RMSNormalization",
    "Reshape",
    "Residual",
]

"""The layers. Definitions and defaults are those of Keras 3."""

from hpcnn.nn.layers.blocks import Residual
from hpcnn.nn.layers.dense import Activation, Dense
from hpcnn.nn.layers.merging import Add, Average, Concatenate, Maximum, Multiply
from hpcnn.nn.layers.noise import Dropout, GaussianNoise, SpatialDropout
from hpcnn.nn.layers.normalization import LayerNorm
from hpcnn.nn.layers.pooling import AveragePooling, GlobalAveragePooling, GlobalMaxPooling, MaxPooling
from hpcnn.nn.layers.rectifiers import ELU, LeakyReLU, PReLU
from hpcnn.nn.layers.shapes import Cropping, Flatten, Permute, RepeatVector, Reshape, UpSampling, ZeroPadding

__all__ = [
    "ELU",
    "Activation",
    "Add",
    "Average",
    "AveragePooling",
    "Concatenate",
    "Cropping",
    "Dense",
    "Dropout",
    "Flatten",
    "GaussianNoise",
    "GlobalAveragePooling",
    "GlobalMaxPooling",
    "LayerNorm",
    "LeakyReLU",
    "MaxPooling",
    "Maximum",
    "Multiply",
    "PReLU",
    "Permute",
    "RepeatVector",
    "Reshape",
    "Residual",
    "SpatialDropout",
    "UpSampling",
    "ZeroPadding",
]

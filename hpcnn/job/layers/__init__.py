"""`[[model.layers]]`: the settings of layers, family by family."""

from hpcnn.job.layers.base import LayerSection
from hpcnn.job.layers.dense import ActivationLayer, Dense
from hpcnn.job.layers.kinds import Layer, Residual
from hpcnn.job.layers.noise import Dropout, GaussianNoise, SpatialDropout
from hpcnn.job.layers.normalization import LayerNorm
from hpcnn.job.layers.pooling import AveragePooling, GlobalAveragePooling, GlobalMaxPooling, MaxPooling
from hpcnn.job.layers.rectifiers import ELU, LeakyReLU, PReLU
from hpcnn.job.layers.shapes import Cropping, Flatten, Permute, RepeatVector, Reshape, UpSampling, ZeroPadding

__all__ = [
    "ELU",
    "ActivationLayer",
    "AveragePooling",
    "Cropping",
    "Dense",
    "Dropout",
    "Flatten",
    "GaussianNoise",
    "GlobalAveragePooling",
    "GlobalMaxPooling",
    "Layer",
    "LayerNorm",
    "LayerSection",
    "LeakyReLU",
    "MaxPooling",
    "PReLU",
    "Permute",
    "RepeatVector",
    "Reshape",
    "Residual",
    "SpatialDropout",
    "UpSampling",
    "ZeroPadding",
]

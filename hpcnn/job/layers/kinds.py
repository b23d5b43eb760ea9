"""All kinds of layers, and those that hold others, which may be of any kind."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from hpcnn.job.layers.base import LayerSection
from hpcnn.job.layers.dense import ActivationLayer, Dense
from hpcnn.job.layers.noise import Dropout, GaussianNoise, SpatialDropout
from hpcnn.job.layers.normalization import LayerNorm
from hpcnn.job.layers.pooling import AveragePooling, GlobalAveragePooling, GlobalMaxPooling, MaxPooling
from hpcnn.job.layers.rectifiers import ELU, LeakyReLU, PReLU
from hpcnn.job.layers.shapes import Cropping, Flatten, Permute, RepeatVector, Reshape, UpSampling, ZeroPadding


class Residual(LayerSection, frozen=True, kw_only=True, tag="residual"):
    """y = x + layers(x); the inner layers must keep the shape."""

    layers: Annotated[list[Layer], Meta(min_length=1)]
    """The inner layers."""


Layer = (
    Dense
    | ActivationLayer
    | Flatten
    | Reshape
    | Dropout
    | LayerNorm
    | Residual
    | MaxPooling
    | AveragePooling
    | GlobalMaxPooling
    | GlobalAveragePooling
    | ZeroPadding
    | Cropping
    | UpSampling
    | Permute
    | RepeatVector
    | GaussianNoise
    | SpatialDropout
    | PReLU
    | LeakyReLU
    | ELU
)

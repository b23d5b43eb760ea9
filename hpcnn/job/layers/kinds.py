"""All kinds of layers, and those that hold others, which may be of any kind."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from hpcnn.job.layers.attention import CrossAttention, MultiHeadAttention
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
)
from hpcnn.job.layers.dense import ActivationLayer, Dense
from hpcnn.job.layers.embeddings import Embedding, PaddingMask, PositionalEmbedding
from hpcnn.job.layers.merging import Add, Average, Concatenate, Maximum, Multiply
from hpcnn.job.layers.noise import Dropout, GaussianNoise, SpatialDropout
from hpcnn.job.layers.normalization import BatchNormalization, GroupNormalization, LayerNorm, RMSNormalization
from hpcnn.job.layers.pooling import AveragePooling, GlobalAveragePooling, GlobalMaxPooling, MaxPooling
from hpcnn.job.layers.rectifiers import ELU, LeakyReLU, PReLU
from hpcnn.job.layers.recurrent import GRU, LSTM, SimpleRNN
from hpcnn.job.layers.shapes import Cropping, Flatten, Permute, RepeatVector, Reshape, UpSampling, ZeroPadding
from hpcnn.job.layers.spectral import SpectralConv1D
from hpcnn.job.section import PositiveInt, Text


class Block(LayerSection, frozen=True, kw_only=True, tag="block"):
    """Layers in a row, several times, each time with parameters of their own."""

    layers: Annotated[list[Layer], Meta(min_length=1)]
    """The inner layers."""
    repeat: PositiveInt = 1
    """How many times; the number of the time is added to the names of the inner layers."""


class Residual(LayerSection, frozen=True, kw_only=True, tag="residual"):
    """y = x + layers(x); the inner layers must keep the shape."""

    layers: Annotated[list[Layer], Meta(min_length=1)]
    """The inner layers."""
    repeat: PositiveInt = 1
    """How many such blocks follow each other, each with parameters of its own."""


class Shared(LayerSection, frozen=True, kw_only=True, tag="shared"):
    """A layer that is there already, with the same parameters, at another place."""

    layer: Text
    """Name of that layer."""


class Bidirectional(LayerSection, frozen=True, kw_only=True, tag="bidirectional"):
    """Goes through a sequence both ways, with a recurrent layer and its double, which has parameters of its own."""

    layers: Annotated[list[Layer], Meta(min_length=1)]
    """The recurrent layer: one."""
    merge_mode: Literal["concat", "sum", "mul", "ave"] = "concat"
    """How the two outputs become one: side by side, or by their sum, product or mean."""


class TimeDistributed(LayerSection, frozen=True, kw_only=True, tag="time_distributed"):
    """Applies a layer to each step of a sequence, with the same parameters."""

    layers: Annotated[list[Layer], Meta(min_length=1)]
    """The layer: one."""


Layer = (
    Dense
    | ActivationLayer
    | Flatten
    | Reshape
    | Dropout
    | LayerNorm
    | Conv1D
    | Conv2D
    | Conv3D
    | DepthwiseConv2D
    | SeparableConv2D
    | Conv1DTranspose
    | Conv2DTranspose
    | Conv3DTranspose
    | BatchNormalization
    | GroupNormalization
    | RMSNormalization
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
    | Add
    | Multiply
    | Average
    | Maximum
    | Concatenate
    | Embedding
    | PositionalEmbedding
    | PaddingMask
    | MultiHeadAttention
    | CrossAttention
    | SpectralConv1D
    | SimpleRNN
    | LSTM
    | GRU
    | Bidirectional
    | TimeDistributed
    | Block
    | Residual
    | Shared
)

"""All kinds of layers, and those that hold others, which may be of any kind."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from hpcnn.job.layers.attention import CrossAttention, MultiHeadAttention
from hpcnn.job.layers.base import LayerSection
from hpcnn.job.layers.dense import ActivationLayer, Dense
from hpcnn.job.layers.embeddings import Embedding, PaddingMask, PositionalEmbedding
from hpcnn.job.layers.noise import Dropout
from hpcnn.job.layers.normalization import LayerNorm
from hpcnn.job.layers.shapes import Flatten, Reshape


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
    | Embedding
    | PositionalEmbedding
    | PaddingMask
    | MultiHeadAttention
    | CrossAttention
)

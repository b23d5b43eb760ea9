"""Embeddings of ids and of positions, and masks of padding."""

from __future__ import annotations

from typing import Literal

from hpcnn.job.layers.base import Initializer, LayerSection
from hpcnn.job.section import PositiveInt


class Embedding(LayerSection, frozen=True, kw_only=True, tag="embedding"):
    """A learned vector for each id."""

    input_dim: PositiveInt
    """Number of ids, which are whole numbers from 0 on."""
    output_dim: PositiveInt
    """Length of a vector."""
    embeddings_initializer: Initializer = "random_uniform"
    """Initializer of the vectors."""
    trainable: bool = True
    """`false` freezes the layer."""


class PositionalEmbedding(LayerSection, frozen=True, kw_only=True, tag="positional_embedding"):
    """Adds a vector to each position of a sequence (length, features)."""

    encoding: Literal["learned", "sinusoidal"] = "learned"
    """Learned vectors, or sines and cosines of the position."""
    embeddings_initializer: Initializer = "random_uniform"
    """Initializer of learned vectors."""
    trainable: bool = True
    """`false` freezes the layer."""


class PaddingMask(LayerSection, frozen=True, kw_only=True, tag="padding_mask"):
    """1 where an id is not 0, else 0: the last input of an attention, which leaves padding out."""

"""`[[model.layers]]`: the settings of layers, family by family."""

from hpcnn.job.layers.attention import CrossAttention, MultiHeadAttention
from hpcnn.job.layers.base import LayerSection
from hpcnn.job.layers.dense import ActivationLayer, Dense
from hpcnn.job.layers.embeddings import Embedding, PaddingMask, PositionalEmbedding
from hpcnn.job.layers.kinds import Layer, Residual
from hpcnn.job.layers.noise import Dropout
from hpcnn.job.layers.normalization import LayerNorm
from hpcnn.job.layers.shapes import Flatten, Reshape

__all__ = [
    "ActivationLayer",
    "CrossAttention",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "Layer",
    "LayerNorm",
    "LayerSection",
    "MultiHeadAttention",
    "PaddingMask",
    "PositionalEmbedding",
    "Reshape",
    "Residual",
]

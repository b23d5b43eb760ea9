"""The layers. Definitions and defaults are those of Keras 3."""

from hpcnn.nn.layers.attention import CrossAttention, MultiHeadAttention
from hpcnn.nn.layers.blocks import Residual
from hpcnn.nn.layers.dense import Activation, Dense
from hpcnn.nn.layers.embeddings import Embedding, PaddingMask, PositionalEmbedding
from hpcnn.nn.layers.noise import Dropout
from hpcnn.nn.layers.normalization import LayerNorm
from hpcnn.nn.layers.shapes import Flatten, Reshape

__all__ = [
    "Activation",
    "CrossAttention",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "LayerNorm",
    "MultiHeadAttention",
    "PaddingMask",
    "PositionalEmbedding",
    "Reshape",
    "Residual",
]

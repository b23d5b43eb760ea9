"""The layers. Definitions and defaults are those of Keras 3."""

from hpcnn.nn.layers.attention import CrossAttention, MultiHeadAttention
from hpcnn.nn.layers.batch_normalization import BatchNormalization
from hpcnn.nn.layers.blocks import Block, Residual, Shared
from hpcnn.nn.layers.convolution import Conv1D, Conv1DTranspose, Conv2D, Conv2DTranspose, Conv3D, Conv3DTranspose
from hpcnn.nn.layers.dense import Activation, Dense
from hpcnn.nn.layers.depthwise import DepthwiseConv2D, SeparableConv2D
from hpcnn.nn.layers.embeddings import Embedding, PaddingMask, PositionalEmbedding
from hpcnn.nn.layers.group_normalization import GroupNormalization
from hpcnn.nn.layers.merging import Add, Average, Concatenate, Maximum, Multiply
from hpcnn.nn.layers.noise import Dropout, GaussianNoise, SpatialDropout
from hpcnn.nn.layers.normalization import LayerNorm, RMSNormalization
from hpcnn.nn.layers.pooling import AveragePooling, GlobalAveragePooling, GlobalMaxPooling, MaxPooling
from hpcnn.nn.layers.rectifiers import ELU, LeakyReLU, PReLU
from hpcnn.nn.layers.recurrent import GRU, LSTM, SimpleRNN
from hpcnn.nn.layers.sequences import Bidirectional, TimeDistributed
from hpcnn.nn.layers.shapes import Cropping, Flatten, Permute, RepeatVector, Reshape, UpSampling, ZeroPadding
from hpcnn.nn.layers.spectral import SpectralConv1D

__all__ = [
    "ELU",
    "GRU",
    "LSTM",
    "Activation",
    "Add",
    "Average",
    "AveragePooling",
    "BatchNormalization",
    "Bidirectional",
    "Block",
    "Concatenate",
    "Conv1D",
    "Conv1DTranspose",
    "Conv2D",
    "Conv2DTranspose",
    "Conv3D",
    "Conv3DTranspose",
    "Cropping",
    "CrossAttention",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "Embedding",
    "Flatten",
    "GaussianNoise",
    "GlobalAveragePooling",
    "GlobalMaxPooling",
    "GroupNormalization",
    "LayerNorm",
    "LeakyReLU",
    "MaxPooling",
    "Maximum",
    "MultiHeadAttention",
    "Multiply",
    "PReLU",
    "PaddingMask",
    "Permute",
    "PositionalEmbedding",
    "RMSNormalization",
    "RepeatVector",
    "Reshape",
    "Residual",
    "SeparableConv2D",
    "Shared",
    "SimpleRNN",
    "SpatialDropout",
    "SpectralConv1D",
    "TimeDistributed",
    "UpSampling",
    "ZeroPadding",
]

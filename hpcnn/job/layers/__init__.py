"""`[[model.layers]]`: the settings of layers, family by family."""

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
    SlidingSection,
)
from hpcnn.job.layers.dense import ActivationLayer, Dense
from hpcnn.job.layers.embeddings import Embedding, PaddingMask, PositionalEmbedding
from hpcnn.job.layers.kinds import Bidirectional, Block, Layer, Residual, Shared, TimeDistributed
from hpcnn.job.layers.merging import Add, Average, Concatenate, Maximum, Multiply
from hpcnn.job.layers.noise import Dropout, GaussianNoise, SpatialDropout
from hpcnn.job.layers.normalization import BatchNormalization, GroupNormalization, LayerNorm, RMSNormalization
from hpcnn.job.layers.pooling import AveragePooling, GlobalAveragePooling, GlobalMaxPooling, MaxPooling
from hpcnn.job.layers.rectifiers import ELU, LeakyReLU, PReLU
from hpcnn.job.layers.recurrent import GRU, LSTM, SimpleRNN
from hpcnn.job.layers.shapes import Cropping, Flatten, Permute, RepeatVector, Reshape, UpSampling, ZeroPadding
from hpcnn.job.layers.spectral import SpectralConv1D

__all__ = [
    "ELU",
    "GRU",
    "LSTM",
    "ActivationLayer",
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
    "Layer",
    "LayerNorm",
    "LayerSection",
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
    "SlidingSection",
    "SpatialDropout",
    "SpectralConv1D",
    "TimeDistributed",
    "UpSampling",
    "ZeroPadding",
]

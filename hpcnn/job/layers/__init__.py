"""`[[model.layers]]`: the settings of layers, family by family."""

from hpcnn.job.layers.base import LayerSection
from hpcnn.job.layers.dense import ActivationLayer, Dense
from hpcnn.job.layers.kinds import Bidirectional, Layer, Residual, TimeDistributed
from hpcnn.job.layers.noise import Dropout
from hpcnn.job.layers.normalization import LayerNorm
from hpcnn.job.layers.recurrent import GRU, LSTM, SimpleRNN
from hpcnn.job.layers.shapes import Flatten, Reshape

__all__ = [
    "GRU",
    "LSTM",
    "ActivationLayer",
    "Bidirectional",
    "Dense",
    "Dropout",
    "Flatten",
    "Layer",
    "LayerNorm",
    "LayerSection",
    "Reshape",
    "Residual",
    "SimpleRNN",
    "TimeDistributed",
]

"""The layers. Definitions and defaults are those of Keras 3."""

from hpcnn.nn.layers.blocks import Residual
from hpcnn.nn.layers.dense import Activation, Dense
from hpcnn.nn.layers.noise import Dropout
from hpcnn.nn.layers.normalization import LayerNorm
from hpcnn.nn.layers.recurrent import GRU, LSTM, SimpleRNN
from hpcnn.nn.layers.sequences import Bidirectional, TimeDistributed
from hpcnn.nn.layers.shapes import Flatten, Reshape

__all__ = [
    "GRU",
    "LSTM",
    "Activation",
    "Bidirectional",
    "Dense",
    "Dropout",
    "Flatten",
    "LayerNorm",
    "Reshape",
    "Residual",
    "SimpleRNN",
    "TimeDistributed",
]

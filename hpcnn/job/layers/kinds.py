"""All kinds of layers, and those that hold others, which may be of any kind."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from hpcnn.job.layers.base import LayerSection
from hpcnn.job.layers.dense import ActivationLayer, Dense
from hpcnn.job.layers.noise import Dropout
from hpcnn.job.layers.normalization import LayerNorm
from hpcnn.job.layers.recurrent import GRU, LSTM, SimpleRNN
from hpcnn.job.layers.shapes import Flatten, Reshape


class Residual(LayerSection, frozen=True, kw_only=True, tag="residual"):
    """y = x + layers(x); the inner layers must keep the shape."""

    layers: Annotated[list[Layer], Meta(min_length=1)]
    """The inner layers."""


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
    | Residual
    | SimpleRNN
    | LSTM
    | GRU
    | Bidirectional
    | TimeDistributed
)

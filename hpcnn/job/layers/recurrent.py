"""Recurrent layers."""

from __future__ import annotations

from typing import Literal

from hpcnn.job.layers.base import Initializer, LayerSection
from hpcnn.job.section import NonNegative, PositiveInt

CellActivation = Literal[
    "linear", "relu", "leaky_relu", "elu", "selu", "gelu", "swish", "softplus", "sigmoid", "tanh"
]  # fmt: skip


class Recurrent(LayerSection, frozen=True, kw_only=True):
    """What all recurrent layers share."""

    units: PositiveInt
    """Width of the output."""
    activation: CellActivation = "tanh"
    """Applied to the output, or to the candidate of a gated cell and, in an LSTM, to the cell state."""
    use_bias: bool = True
    """Whether to add a bias."""
    return_sequences: bool = False
    """Whether to return the output of each step, shape (steps, units), or that of the last alone."""
    go_backwards: bool = False
    """Whether to go from the last step to the first; a sequence is returned in that order."""
    kernel_initializer: Initializer = "glorot_uniform"
    """Initializer of the kernel, for the inputs."""
    recurrent_initializer: Initializer = "orthogonal"
    """Initializer of the recurrent kernel, for the outputs of the step before."""
    bias_initializer: Literal["zeros", "ones"] = "zeros"
    """Initializer of the bias."""
    kernel_l1: NonNegative = 0.0
    """Penalty on the sum of |kernel|."""
    kernel_l2: NonNegative = 0.0
    """Penalty on the sum of kernel^2."""
    recurrent_l1: NonNegative = 0.0
    """Penalty on the sum of |recurrent kernel|."""
    recurrent_l2: NonNegative = 0.0
    """Penalty on the sum of (recurrent kernel)^2."""
    bias_l1: NonNegative = 0.0
    """Penalty on the sum of |bias|."""
    bias_l2: NonNegative = 0.0
    """Penalty on the sum of bias^2."""
    trainable: bool = True
    """`false` freezes the layer."""


class SimpleRNN(Recurrent, frozen=True, kw_only=True, tag="simple_rnn"):
    """Goes through a sequence: h' = activation(x . kernel + h . recurrent kernel + bias) at each step."""


class LSTM(Recurrent, frozen=True, kw_only=True, tag="lstm"):
    """Goes through a sequence with a long short-term memory cell."""

    recurrent_activation: CellActivation = "sigmoid"
    """Applied to the input, forget and output gates."""
    unit_forget_bias: bool = True
    """Whether the bias of the forget gate starts at 1."""


class GRU(Recurrent, frozen=True, kw_only=True, tag="gru"):
    """Goes through a sequence with a gated recurrent unit."""

    recurrent_activation: CellActivation = "sigmoid"
    """Applied to the update and reset gates."""
    reset_after: bool = True
    """Whether the reset gate acts behind the recurrent kernel, which then has a bias of its own, or before it."""

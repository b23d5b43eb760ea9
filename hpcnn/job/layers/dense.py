"""Dense layers, and activations on their own."""

from __future__ import annotations

from typing import Literal

from hpcnn.job.layers.base import Activation, Initializer, LayerSection
from hpcnn.job.section import NonNegative, PositiveInt


class Dense(LayerSection, frozen=True, kw_only=True, tag="dense"):
    """y = activation(x . kernel + bias), over the last axis."""

    units: PositiveInt
    """Width of the output."""
    activation: Activation = "linear"
    """Applied to the output."""
    use_bias: bool = True
    """Whether to add a bias."""
    kernel_initializer: Initializer = "glorot_uniform"
    """Initializer of the kernel."""
    bias_initializer: Literal["zeros", "ones"] = "zeros"
    """Initializer of the bias."""
    kernel_l1: NonNegative = 0.0
    """Penalty on the sum of |kernel|."""
    kernel_l2: NonNegative = 0.0
    """Penalty on the sum of kernel^2."""
    bias_l1: NonNegative = 0.0
    """Penalty on the sum of |bias|."""
    bias_l2: NonNegative = 0.0
    """Penalty on the sum of bias^2."""
    trainable: bool = True
    """`false` freezes the layer."""


class ActivationLayer(LayerSection, frozen=True, kw_only=True, tag="activation"):
    """An activation as a layer."""

    activation: Activation
    """The activation function."""

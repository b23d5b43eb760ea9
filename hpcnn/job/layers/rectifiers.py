"""Rectifiers whose slope for negative inputs, or limit, is learnt or set."""

from __future__ import annotations

from typing import Literal

from msgspec import field

from hpcnn.job.layers.base import LayerSection
from hpcnn.job.section import NonNegative, PositiveInt


class PReLU(LayerSection, frozen=True, kw_only=True, tag="prelu"):
    """y = x where x > 0, alpha x elsewhere, with a learnt alpha for each entry of a sample."""

    shared_axes: list[PositiveInt] = field(default_factory=list)
    """Axes of a sample, counted from 1, whose entries share one alpha: `[1, 2]` for one a channel of images."""
    alpha_initializer: Literal["zeros", "ones"] = "zeros"
    """Initializer of alpha."""
    alpha_l1: NonNegative = 0.0
    """Penalty on the sum of |alpha|."""
    alpha_l2: NonNegative = 0.0
    """Penalty on the sum of alpha^2."""
    trainable: bool = True
    """`false` freezes the layer."""


class LeakyReLU(LayerSection, frozen=True, kw_only=True, tag="leaky_relu"):
    """y = x where x > 0, negative_slope x elsewhere."""

    negative_slope: NonNegative = 0.3
    """Slope for negative inputs."""


class ELU(LayerSection, frozen=True, kw_only=True, tag="elu"):
    """y = x where x > 0, alpha (exp(x) - 1) elsewhere."""

    alpha: NonNegative = 1.0
    """Outputs are above -alpha."""

"""What several networks are made of."""

from __future__ import annotations

from hpcnn.nn.layer import Layer
from hpcnn.nn.layers import BatchNormalization, Conv2D

MOMENTUM = 0.9
"""Of the moving averages of batch normalisation."""


def normalized_convolution(
    filters: int,
    kernel_size: int,
    *,
    strides: int = 1,
    statistics: str = "batch",
    l2: float = 0.0,
    name: str = "",
    inputs: tuple[str, ...] = (),
) -> list[Layer]:
    """Return a convolution with padding and without bias, and a batch normalisation that has the name."""
    convolution = Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        kernel_l2=l2,
        inputs=inputs,
    )
    return [convolution, BatchNormalization(momentum=MOMENTUM, statistics=statistics, name=name)]

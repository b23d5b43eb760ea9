"""MobileNet: depthwise separable convolutions."""

from __future__ import annotations

from hpcnn.models.pieces import MOMENTUM, normalized_convolution
from hpcnn.nn.layer import Layer
from hpcnn.nn.layers import Activation, BatchNormalization, Dense, DepthwiseConv2D, Dropout, GlobalAveragePooling

STEPS = ((2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2), *((16, 1),) * 5, (32, 2), (32, 1))
"""Filters, in multiples of those of the first convolution, and strides of each separable convolution."""


def layers(
    filters: int = 32, classes: int = 10, strides: int = 2, dropout: float = 0.001, statistics: str = "batch"
) -> list[Layer]:
    """Return a MobileNet of version 1 (Howard et al., 2017).

    Args:
        filters: those of the first convolution; 32 times the paper's width multiplier.
        classes: number of classes.
        strides: those of the first convolution; 1 for small images.
        dropout: rate before the last layer.
        statistics: what batch normalisation takes its statistics from, ``batch`` or ``shard``.

    >>> from hpcnn.nn import Network
    >>> Network(layers(classes=1000), (224, 224, 3)).layout.size
    4253864
    """
    found = [*normalized_convolution(filters, 3, strides=strides, statistics=statistics), Activation("relu")]
    for width, step in STEPS:
        found += [
            DepthwiseConv2D(3, strides=step, padding="same", use_bias=False),
            BatchNormalization(momentum=MOMENTUM, statistics=statistics),
            Activation("relu"),
            *normalized_convolution(filters * width, 1, statistics=statistics),
            Activation("relu"),
        ]
    return [*found, GlobalAveragePooling(), Dropout(dropout), Dense(classes, activation="softmax")]

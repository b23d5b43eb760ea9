"""Temporal convolutional networks: causal convolutions whose dilation grows."""

from __future__ import annotations

from hpcnn.nn.layer import Layer
from hpcnn.nn.layers import Activation, Add, Conv1D, Dense, Dropout, GlobalAveragePooling


def layers(
    filters: int = 32,
    levels: int = 4,
    kernel_size: int = 3,
    outputs: int = 1,
    activation: str = "linear",
    pooling: str = "average",
    dropout: float = 0.0,
) -> list[Layer]:
    """Return a temporal convolutional network (Bai, Kolter and Koltun, 2018), without their normalisation of weights.

    An output sees 1 + 2 (kernel_size - 1) (2^levels - 1) steps.

    Args:
        filters: those of each convolution.
        levels: number of residual blocks; the dilation of block i is 2^i.
        kernel_size: taps of a convolution.
        outputs: number of outputs.
        activation: that of the outputs.
        pooling: ``average``: outputs for the mean over all steps; ``none``: outputs for each step.
        dropout: rate behind each convolution.

    >>> from hpcnn.nn import Network
    >>> Network(layers(outputs=2, pooling="none"), (50, 1)).output_shape
    (50, 2)
    """
    before, found = "input", []
    for level in range(levels):
        name = f"level_{level + 1}"
        found += _block(filters, kernel_size, 1 << level, dropout, name, before, widens=level == 0)
        before = name
    mean: list[Layer] = [] if pooling == "none" else [GlobalAveragePooling()]
    return [*found, *mean, Dense(outputs, activation=activation)]


def _block(
    filters: int, size: int, dilation: int, dropout: float, name: str, before: str, *, widens: bool
) -> list[Layer]:
    """Return two convolutions whose result is added to what came in, or to a product of that with `filters` columns."""
    found: list[Layer] = []
    for number in range(2):
        rectified = f"{name}_rectified_{number + 1}"
        found.append(
            Conv1D(
                filters,
                size,
                padding="causal",
                dilation_rate=dilation,
                activation="relu",
                kernel_initializer="he_normal",
                name=rectified,
            )
        )
        if dropout:
            rectified = f"{name}_dropout_{number + 1}"
            found.append(Dropout(dropout, name=rectified))
    shortcut = before
    if widens:
        shortcut = f"{name}_shortcut"
        found.append(Conv1D(filters, 1, name=shortcut, inputs=(before,)))
    return [*found, Add(name=f"{name}_sum", inputs=(rectified, shortcut)), Activation("relu", name=name)]

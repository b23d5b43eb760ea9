"""VGG: plain convolutions of 3 x 3 and pooling."""

from __future__ import annotations

from hpcnn.errors import ModelError
from hpcnn.models.pieces import normalized_convolution
from hpcnn.nn.layer import Layer
from hpcnn.nn.layers import Activation, Conv2D, Dense, Dropout, Flatten, MaxPooling

CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""How many each stage has, by depth: configurations A, B, D and E of the paper."""
WIDTHS = (1, 2, 4, 8, 8)


def layers(
    depth: int = 16,
    filters: int = 64,
    units: int = 4096,
    classes: int = 10,
    dropout: float = 0.5,
    batch_normalization: bool = False,
    statistics: str = "batch",
) -> list[Layer]:
    """Return a VGG network (Simonyan and Zisserman, 2015).

    Args:
        depth: number of weighted layers: 11, 13, 16 or 19.
        filters: those of the first stage; up to eight times as many follow.
        units: width of the two hidden dense layers.
        classes: number of classes.
        dropout: rate behind the hidden dense layers.
        batch_normalization: whether to normalise behind each convolution.
        statistics: what batch normalisation takes its statistics from, ``batch`` or ``shard``.

    Raises:
        ModelError: there is no VGG of that depth.

    >>> from hpcnn.nn import Network
    >>> Network(layers(classes=1000), (224, 224, 3)).layout.size
    138357544
    """
    if depth not in CONVOLUTIONS:
        raise ModelError(f"a vgg has a depth of {', '.join(map(str, CONVOLUTIONS))}, but got {depth}")
    found: list[Layer] = []
    for count, width in zip(CONVOLUTIONS[depth], WIDTHS, strict=True):
        for _ in range(count):
            if batch_normalization:
                found += [*normalized_convolution(filters * width, 3, statistics=statistics), Activation("relu")]
            else:
                found.append(
                    Conv2D(filters * width, 3, padding="same", activation="relu", kernel_initializer="he_normal")
                )
        found.append(MaxPooling(2))
    found.append(Flatten())
    for _ in range(2):
        found += [Dense(units, activation="relu", kernel_initializer="he_normal"), Dropout(dropout)]
    return [*found, Dense(classes, activation="softmax")]

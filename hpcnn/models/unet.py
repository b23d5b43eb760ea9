"""U-Net: a class for each pixel of an image."""

from __future__ import annotations

from hpcnn.models.pieces import normalized_convolution
from hpcnn.nn.layer import Layer
from hpcnn.nn.layers import Activation, Concatenate, Conv2D, Conv2DTranspose, MaxPooling


def layers(
    filters: int = 16, levels: int = 3, classes: int = 2, batch_normalization: bool = True, statistics: str = "batch"
) -> list[Layer]:
    """Return a U-Net (Ronneberger, Fischer and Brox, 2015) whose convolutions keep height and width.

    Args:
        filters: those of the first level; they double from level to level.
        levels: how often the image is halved; height and width are multiples of 2^levels.
        classes: number of classes; 1: one probability for each pixel.
        batch_normalization: whether to normalise behind each convolution.
        statistics: what batch normalisation takes its statistics from, ``batch`` or ``shard``.

    >>> from hpcnn.nn import Network
    >>> Network(layers(filters=4, levels=2, classes=3), (16, 16, 1)).output_shape
    (16, 16, 3)
    """

    def twice(count: int, name: str) -> list[Layer]:
        if not batch_normalization:
            same = {"padding": "same", "activation": "relu", "kernel_initializer": "he_normal"}
            return [Conv2D(count, 3, **same), Conv2D(count, 3, **same, name=name)]  # type: ignore[arg-type]
        convolution = normalized_convolution(count, 3, statistics=statistics)
        return [*convolution, Activation("relu"), *convolution, Activation("relu", name=name)]

    found: list[Layer] = []
    for level in range(levels):
        found += [*twice(filters << level, f"down_{level + 1}"), MaxPooling(2)]
    found += twice(filters << levels, "bottom")
    for level in reversed(range(levels)):
        larger = f"larger_{level + 1}"
        found += [
            Conv2DTranspose(filters << level, 2, strides=2, name=larger),
            Concatenate(inputs=(f"down_{level + 1}", larger)),
            *twice(filters << level, f"up_{level + 1}"),
        ]
    return [*found, Conv2D(classes, 1, activation="sigmoid" if classes == 1 else "softmax")]

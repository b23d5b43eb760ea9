"""Residual networks for small images, as CIFAR's."""

from __future__ import annotations

from collections.abc import Callable

from hpcnn.errors import ModelError
from hpcnn.models.pieces import normalized_convolution
from hpcnn.nn.layer import Layer
from hpcnn.nn.layers import Activation, Add, Dense, GlobalAveragePooling, Residual

Convolve = Callable[..., list[Layer]]


def layers(
    depth: int = 20, filters: int = 16, classes: int = 10, statistics: str = "batch", l2: float = 0.0
) -> list[Layer]:
    """Return a residual network of three stages (He et al., 2016, section 4.2).

    Where the shape changes, the shortcut is a convolution of 1 x 1 (option B of the paper).

    Args:
        depth: number of weighted layers, 6n + 2: three stages of n blocks of two convolutions.
        filters: those of the first stage; they double from stage to stage, while height and width are halved.
        classes: number of classes.
        statistics: what batch normalisation takes its statistics from, ``batch`` or ``shard``.
        l2: penalty on the sum of kernel^2.

    Raises:
        ModelError: the depth is not 6n + 2.

    >>> from hpcnn.nn import Network
    >>> Network(layers(), (32, 32, 3)).layout.trainable_size
    272474
    """
    if depth < 8 or depth % 6 != 2:
        raise ModelError(f"a resnet has a depth of 6n + 2, such as 20, 32, 44, 56 or 110, but got {depth}")

    def convolve(
        count: int, size: int, *, strides: int = 1, name: str = "", inputs: tuple[str, ...] = ()
    ) -> list[Layer]:
        return normalized_convolution(
            count, size, strides=strides, statistics=statistics, l2=l2, name=name, inputs=inputs
        )

    name = "stem"
    found: list[Layer] = [*convolve(filters, 3), Activation("relu", name=name)]
    for stage in range(3):
        for number in range((depth - 2) // 6):
            before, name = name, f"stage{stage + 1}_block{number + 1}"
            smaller = stage > 0 and number == 0
            make = _projected_block if smaller else _block
            found += make(convolve, filters << stage, name, before)
    return [*found, GlobalAveragePooling(), Dense(classes, activation="softmax", kernel_l2=l2)]


def _block(convolve: Convolve, filters: int, name: str, before: str) -> list[Layer]:
    inner = [*convolve(filters, 3), Activation("relu"), *convolve(filters, 3)]
    return [Residual(tuple(inner), name=f"{name}_sum"), Activation("relu", name=name)]


def _projected_block(convolve: Convolve, filters: int, name: str, before: str) -> list[Layer]:
    """Return a block that halves height and width."""
    return [
        *convolve(filters, 3, strides=2),
        Activation("relu"),
        *convolve(filters, 3, name=f"{name}_residual"),
        *convolve(filters, 1, strides=2, name=f"{name}_shortcut", inputs=(before,)),
        Add(name=f"{name}_sum", inputs=(f"{name}_residual", f"{name}_shortcut")),
        Activation("relu", name=name),
    ]

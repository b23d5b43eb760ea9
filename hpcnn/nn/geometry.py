"""Where the outputs of a convolution see its inputs: over three axes, channels last."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

PADDINGS = ("valid", "same", "causal")
"""Only whole windows; as many outputs as inputs (divided by the stride); the same without looking ahead."""
AXES = 3
"""Of each image; those that are absent have length 1."""


@dataclass(frozen=True)
class Geometry:
    """A convolution's shape, axis by axis: d, h, w.

    The output at position p takes the inputs at ``p stride + tap dilation - before``, for each tap of the kernel;
    outside the image they are 0.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    groups: int = 1

    @property
    def numbers(self) -> tuple[int, ...]:
        """What the compiled core takes beside the shapes of arrays."""
        return (self.groups, *self.strides, *self.dilation, *self.before)

    @property
    def positions(self) -> int:
        """Outputs of a sample, for each channel."""
        return math.prod(self.outputs)


def three(sizes: Sequence[int], absent: int = 1) -> tuple[int, ...]:
    """Return sizes along one to three axes as those along three."""
    return (*(absent,) * (AXES - len(sizes)), *sizes)


def geometry(
    inputs: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
    padding: str,
    groups: int = 1,
) -> Geometry:
    """Return the geometry of a convolution; an axis that is too short for the kernel has 0 outputs or fewer.

    With "same", an odd number of zeros has one more behind the image than before it.

    >>> shape = geometry((28,), (3,), (2,), (1,), "same")
    >>> shape.outputs, shape.before
    ((1, 1, 14), (0, 0, 0))
    """
    outputs, before = [], []
    for size, taps, stride, spread in zip(inputs, kernel, strides, dilation, strict=True):
        reach = (taps - 1) * spread
        if padding == "valid":
            outputs.append((size - reach - 1) // stride + 1)
            before.append(0)
        else:
            outputs.append((size - 1) // stride + 1)
            before.append(reach if padding == "causal" else max((outputs[-1] - 1) * stride + reach + 1 - size, 0) // 2)
    return Geometry(
        three(inputs), three(outputs), three(kernel), three(strides), three(dilation), three(before, 0), groups
    )


def transposed_geometry(
    inputs: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int], padding: str
) -> Geometry:
    """Return the geometry of the convolution whose outputs have the size of these inputs."""
    sizes = [
        size * stride + (max((taps - 1) * spread + 1 - stride, 0) if padding == "valid" else 0)
        for size, taps, stride, spread in zip(inputs, kernel, strides, dilation, strict=True)
    ]
    found = geometry(sizes, kernel, strides, dilation, padding)
    assert found.outputs == three(inputs)
    return found

"""Zeros around images."""

from __future__ import annotations

from collections.abc import Sequence

from hpcnn.nn.geometry import Geometry


def paddings(geometry: Geometry, axes: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return how many entries windows reach beyond the image before and after it, for each of the last `axes` axes.

    After it, the number is negative where windows leave out so many entries at the end.
    """
    before, after = [], []
    for axis in range(3 - axes, 3):
        reach = (geometry.kernel[axis] - 1) * geometry.dilation[axis] + 1
        end = (geometry.outputs[axis] - 1) * geometry.strides[axis] + reach - geometry.before[axis]
        before.append(geometry.before[axis])
        after.append(end - geometry.inputs[axis])
    return tuple(before), tuple(after)


def around(before: Sequence[int], after: Sequence[int]) -> list[int]:
    """Return what `torch.nn.functional.pad` takes to put zeros around images with their channels first."""
    pairs = zip(reversed(before), reversed(after), strict=True)
    return [max(number, 0) for pair in pairs for number in pair]

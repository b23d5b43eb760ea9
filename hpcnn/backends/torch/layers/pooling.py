"""Pooling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hpcnn.backends.torch.layers.making import Call, Make, Place, stateless
from hpcnn.backends.torch.layers.spatial import around, paddings
from hpcnn.nn.geometry import geometry
from hpcnn.nn.layer import Layer
from hpcnn.nn.layers import AveragePooling, GlobalAveragePooling, GlobalMaxPooling, MaxPooling
from hpcnn.nn.layers.spatial import for_each_axis


class _Windows:
    """Where the windows of a layer are."""

    def __init__(self, place: Place) -> None:
        layer, axes = place.layer, place.input_shape[:-1]
        self.axes = len(axes)
        self.size = for_each_axis(layer, "pool_size", layer.pool_size, axes)
        strides = layer.pool_size if layer.strides is None else layer.strides
        self.step = for_each_axis(layer, "strides", strides, axes)
        found = geometry(axes, self.size, self.step, (1,) * len(axes), layer.padding)
        zeros = around(*paddings(found, self.axes))
        self.around = zeros if any(zeros) else []
        """What `torch.nn.functional.pad` takes; empty if windows do not reach beyond the image."""


def _max(place: Place) -> Call:
    from torch.nn import functional as f

    windows = _Windows(place)
    pool = (f.max_pool1d, f.max_pool2d, f.max_pool3d)[windows.axes - 1]

    def call(x: Any) -> Any:
        x = x.movedim(-1, 1)
        x = f.pad(x, windows.around, value=-math.inf) if windows.around else x
        return pool(x, windows.size, windows.step).movedim(1, -1)

    return stateless(call)


def _average(place: Place) -> Call:
    """PyTorch counts the zeros around an image as well: the means are divided by the share of a window within it."""
    import torch
    from torch.nn import functional as f

    windows = _Windows(place)
    pool = (f.avg_pool1d, f.avg_pool2d, f.avg_pool3d)[windows.axes - 1]
    inside = f.pad(torch.ones(1, 1, *place.input_shape[:-1], dtype=torch.float64), windows.around)
    factors = (1 / pool(inside, windows.size, windows.step)).to(getattr(torch, place.dtype))

    def call(x: Any) -> Any:
        x = x.movedim(-1, 1)
        if not windows.around:
            return pool(x, windows.size, windows.step).movedim(1, -1)
        y = pool(f.pad(x, windows.around), windows.size, windows.step)
        return (y * factors.to(y.device)).movedim(1, -1)

    return stateless(call)


def _global_max(place: Place) -> Call:
    """Take the largest by its place, so that the first of equals gets the whole gradient."""
    return stateless(lambda x: x.flatten(1, -2).max(1).values.reshape(x.shape[0], *place.output_shape))


def _global_average(place: Place) -> Call:
    return stateless(lambda x: x.flatten(1, -2).mean(1).reshape(x.shape[0], *place.output_shape))


LAYERS: Mapping[type[Layer], Make] = {
    MaxPooling: _max,
    AveragePooling: _average,
    GlobalMaxPooling: _global_max,
    GlobalAveragePooling: _global_average,
}

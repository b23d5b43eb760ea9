"""Pooling over one to three spatial axes, channels last."""

from __future__ import annotations

from typing import Literal

from hpcnn.job.layers.base import LayerSection, PositiveInts


class WindowPooling(LayerSection, frozen=True, kw_only=True):
    """Settings of pooling over windows."""

    pool_size: PositiveInts = 2
    """Length of the windows along each spatial axis."""
    strides: PositiveInts | None = None
    """From one window to the next; default: `pool_size`."""
    padding: Literal["valid", "same"] = "valid"
    """`"valid"`: windows lie within the sample; `"same"`: they may reach beyond its edges."""


class MaxPooling(WindowPooling, frozen=True, kw_only=True, tag="max_pooling"):
    """The largest entry of each window, channel by channel."""


class AveragePooling(WindowPooling, frozen=True, kw_only=True, tag="average_pooling"):
    """The mean of each window, channel by channel."""


class GlobalPooling(LayerSection, frozen=True, kw_only=True):
    """Settings of pooling over all positions."""

    keepdims: bool = False
    """Whether to keep the spatial axes, with length 1."""


class GlobalMaxPooling(GlobalPooling, frozen=True, kw_only=True, tag="global_max_pooling"):
    """The largest entry of each channel."""


class GlobalAveragePooling(GlobalPooling, frozen=True, kw_only=True, tag="global_average_pooling"):
    """The mean of each channel."""

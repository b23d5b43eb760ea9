"""Layers that change the shape of each sample."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from hpcnn.job.layers.base import LayerSection, Pairs, PositiveInts
from hpcnn.job.section import PositiveInt


class Flatten(LayerSection, frozen=True, kw_only=True, tag="flatten"):
    """Flattens each sample to one axis."""


class Reshape(LayerSection, frozen=True, kw_only=True, tag="reshape"):
    """Reshapes each sample."""

    shape: Annotated[list[int], Meta(min_length=1)]
    """Shape of a sample; one entry may be -1."""


class Permute(LayerSection, frozen=True, kw_only=True, tag="permute"):
    """Puts the axes of each sample in another order."""

    dims: Annotated[list[PositiveInt], Meta(min_length=1)]
    """The axes in their new order, counted from 1, as `[2, 1]`."""


class RepeatVector(LayerSection, frozen=True, kw_only=True, tag="repeat_vector"):
    """Repeats each sample, a vector, along a new first axis."""

    n: PositiveInt
    """How often."""


class ZeroPadding(LayerSection, frozen=True, kw_only=True, tag="zero_padding"):
    """Puts zeros around the entries of each spatial axis."""

    padding: Pairs = 1
    """How many at both ends: one number, one for each spatial axis, or for each a pair `[before, after]`."""


class Cropping(LayerSection, frozen=True, kw_only=True, tag="cropping"):
    """Leaves out entries at the ends of each spatial axis."""

    cropping: Pairs = 1
    """How many at both ends: one number, one for each spatial axis, or for each a pair `[before, after]`."""


class UpSampling(LayerSection, frozen=True, kw_only=True, tag="up_sampling"):
    """Makes each spatial axis longer."""

    size: PositiveInts = 2
    """How many times as long: one number, or one for each spatial axis."""
    interpolation: Literal["nearest", "bilinear"] = "nearest"
    """`"nearest"` repeats entries; `"bilinear"` is for images, and interpolates between the centres of entries."""

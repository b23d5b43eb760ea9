"""Layers that change the shape of each sample."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from hpcnn.job.layers.base import LayerSection


class Flatten(LayerSection, frozen=True, kw_only=True, tag="flatten"):
    """Flattens each sample to one axis."""


class Reshape(LayerSection, frozen=True, kw_only=True, tag="reshape"):
    """Reshapes each sample."""

    shape: Annotated[list[int], Meta(min_length=1)]
    """Shape of a sample; one entry may be -1."""

"""Normalisations."""

from __future__ import annotations

from hpcnn.job.layers.base import LayerSection
from hpcnn.job.section import Positive


class LayerNorm(LayerSection, frozen=True, kw_only=True, tag="layer_norm"):
    """Normalises the last axis of each sample, then scales and shifts it."""

    epsilon: Positive = 0.001
    """Added to the variance."""
    center: bool = True
    """Whether to learn a shift (beta)."""
    scale: bool = True
    """Whether to learn a scale (gamma)."""
    trainable: bool = True
    """`false` freezes the layer."""

"""Normalisations."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from hpcnn.job.layers.base import LayerSection
from hpcnn.job.section import Positive, Share


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


class BatchNormalization(LayerSection, frozen=True, kw_only=True, tag="batch_normalization"):
    """Normalises each channel (the last axis) over the samples of the batch, then scales and shifts it."""

    momentum: Share = 0.99
    """Weight of the old value in the moving averages, by which trained models normalise."""
    epsilon: Positive = 0.001
    """Added to the variance."""
    center: bool = True
    """Whether to learn a shift (beta)."""
    scale: bool = True
    """Whether to learn a scale (gamma)."""
    statistics: Literal["batch", "shard"] = "batch"
    """Mean and variance in training: of the whole batch, on all ranks, or of each gradient shard by itself."""
    trainable: bool = True
    """`false` freezes the layer: it normalises by the moving averages, which stay as they are."""


class GroupNormalization(LayerSection, frozen=True, kw_only=True, tag="group_normalization"):
    """Normalises each sample over all positions and a group of channels (the last axis), then scales and shifts it."""

    groups: Annotated[int, Meta(ge=-1)] = 32
    """Number of groups of equal size; `-1`: each channel is one (instance normalisation)."""
    epsilon: Positive = 0.001
    """Added to the variance."""
    center: bool = True
    """Whether to learn a shift (beta)."""
    scale: bool = True
    """Whether to learn a scale (gamma)."""
    trainable: bool = True
    """`false` freezes the layer."""


class RMSNormalization(LayerSection, frozen=True, kw_only=True, tag="rms_normalization"):
    """Divides the last axis of each sample by its root mean square, then scales it."""

    epsilon: Positive = 1e-6
    """Added to the mean square."""
    trainable: bool = True
    """`false` freezes the layer."""

"""Convolutions in the space of frequencies."""

from __future__ import annotations

from hpcnn.job.layers.base import LayerSection
from hpcnn.job.section import PositiveInt


class SpectralConv1D(LayerSection, frozen=True, kw_only=True, tag="spectral_conv1d"):
    """Multiplies each of the lowest frequencies of (length, channels) by a complex matrix, as Fourier operators do."""

    filters: PositiveInt
    """Number of output channels."""
    modes: PositiveInt
    """Number of frequencies, from 0 on; at most length / 2 + 1. Higher ones become 0."""
    trainable: bool = True
    """`false` freezes the layer."""

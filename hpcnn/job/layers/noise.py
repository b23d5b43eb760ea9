"""Layers that draw random numbers in training."""

from __future__ import annotations

from hpcnn.job.layers.base import LayerSection
from hpcnn.job.section import Fraction, Share


class Dropout(LayerSection, frozen=True, kw_only=True, tag="dropout"):
    """Zeroes inputs at random during training, and scales up the others."""

    rate: Fraction
    """Fraction of the inputs to drop."""


class SpatialDropout(LayerSection, frozen=True, kw_only=True, tag="spatial_dropout"):
    """Zeroes whole channels of a sample at random during training, and scales up the others."""

    rate: Fraction
    """Fraction of the channels to drop."""


class GaussianNoise(LayerSection, frozen=True, kw_only=True, tag="gaussian_noise"):
    """Adds normal numbers to the inputs during training."""

    stddev: Share
    """Standard deviation of the noise."""

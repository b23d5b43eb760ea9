"""Layers that draw random numbers in training."""

from __future__ import annotations

from hpcnn.job.layers.base import LayerSection
from hpcnn.job.section import Fraction


class Dropout(LayerSection, frozen=True, kw_only=True, tag="dropout"):
    """Zeroes inputs at random during training, and scales up the others."""

    rate: Fraction
    """Fraction of the inputs to drop."""

"""`[data.augment]`: random changes of the training images."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from hpcnn.job.section import Fraction, NonNegative, NonNegativeInt, Section


class Augment(Section, frozen=True, kw_only=True):
    """Random changes of the training images, others in each epoch. What lies outside of an image is 0."""

    flip: Literal["none", "horizontal", "vertical", "both"] = "none"
    """Mirror every second image, on average: left and right, top and bottom, or each of the two."""
    crop_padding: NonNegativeInt = 0
    """Pad by that many pixels on each side, and crop the old size at a random place."""
    shift: Fraction = 0.0
    """Move by up to this fraction of height and width."""
    rotate: Annotated[float, Meta(ge=0, le=180)] = 0.0
    """Turn by up to that many degrees, either way."""
    contrast: Fraction = 0.0
    """Multiply the distances to the mean of the image by 1 - contrast to 1 + contrast."""
    brightness: NonNegative = 0.0
    """Add a number from -brightness to brightness to all values, as they are after `data.scale`."""
    cutout: NonNegativeInt = 0
    """Set a square with sides of that many pixels to 0, whose centre is anywhere in the image."""
    mixup: Annotated[float, Meta(ge=0, le=2)] = 0.0
    """Mix with another training sample, inputs and targets, by a share from Beta(mixup, mixup)."""

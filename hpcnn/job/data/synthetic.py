"""`[data]`: synthetic data, computed row by row from a seed."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from hpcnn.job.data.base import DataSection
from hpcnn.job.section import NonNegative, NonNegativeInt, PositiveInt

Steps = Annotated[int, Meta(ge=1, le=1_048_576)]
"""Of a synthetic sample, so that one fits into memory."""
Parts = Annotated[int, Meta(ge=1, le=1000)]
"""What a synthetic sample is made of."""


class Synthetic(DataSection, frozen=True, kw_only=True, tag="synthetic"):
    """Synthetic data of any size, computed row by row from a seed and never held in memory."""

    kind: Literal["linear", "classification"]
    """`linear`: y = x . slope + intercept + noise, uniform in [0, noise). `classification`: a Gaussian cluster per \
class."""
    samples: PositiveInt
    """Number of rows."""
    features: PositiveInt = 1
    """Number of inputs per row."""
    slope: float = 1.0
    """`linear`: weight of each input."""
    intercept: float = 0.0
    """`linear`: constant term."""
    classes: Annotated[int, Meta(ge=2)] = 2
    """`classification`: number of classes."""
    noise: NonNegative = 1.0
    """Width of the noise, or standard deviation of a cluster."""
    seed: NonNegativeInt = 0
    """Seed of the data."""


class Shapes(DataSection, frozen=True, kw_only=True, tag="shapes"):
    """Synthetic images (size, size, channels) to segment: shapes over noise, computed row by row from a seed.

    A target is the class of each pixel, (size, size): 0 background, 1 circle, 2 square, 3 triangle.
    """

    samples: PositiveInt
    """Number of images."""
    size: Annotated[int, Meta(ge=8, le=4096)] = 32
    """Height and width of an image."""
    channels: Annotated[int, Meta(ge=1, le=4)] = 1
    """Number of channels."""
    shapes: Parts = 3
    """Number of shapes in an image; a later one covers those before."""
    noise: NonNegative = 0.25
    """Width of the noise, uniform in [0, noise), that is added to each pixel. Shapes are 0.5 to 1 above it."""
    seed: NonNegativeInt = 0
    """Seed of the data."""


class Heat(DataSection, frozen=True, kw_only=True, tag="heat"):
    """Synthetic solutions of the heat equation u_t = diffusivity u_xx on a periodic line of length 1.

    Inputs are initial states (points, 1), targets the states at `time`, (points, 1), computed row by row from a seed.
    """

    samples: PositiveInt
    """Number of pairs of states."""
    points: Annotated[int, Meta(ge=2, le=1_048_576)] = 64
    """Number of points of the line."""
    modes: PositiveInt = 4
    """Number of sine waves in an initial state, of 1, 2, ... periods. Amplitudes and phases are random."""
    diffusivity: NonNegative = 0.01
    """Factor of u_xx."""
    time: NonNegative = 0.5
    """Time of the targets; the inputs are at 0."""
    seed: NonNegativeInt = 0
    """Seed of the data."""


class Series(DataSection, frozen=True, kw_only=True, tag="series"):
    """Windows of a synthetic time series, a sum of sine waves and noise, computed row by row from a seed.

    Inputs are `length` steps, (length, 1), targets the next `horizon` steps, (horizon,). With `validation_fraction` the
    last windows are held out; they begin where the others end.
    """

    samples: PositiveInt
    """Number of windows."""
    length: Steps = 64
    """Number of steps of the inputs."""
    horizon: Steps = 1
    """Number of steps of the targets."""
    stride: PositiveInt = 1
    """Distance of the starts of two windows."""
    components: Parts = 3
    """Number of sine waves: periods from 4 to `length` steps (at least 8), amplitudes from 0.5 to 1."""
    noise: NonNegative = 0.1
    """Standard deviation of the normal noise of each step."""
    seed: NonNegativeInt = 0
    """Seed of the data."""

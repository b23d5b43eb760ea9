"""`[data]`: sets that come with packages, and arrays of a program."""

from __future__ import annotations

from typing import Literal

from hpcnn.job.data.base import DataSection
from hpcnn.job.data.tables import Categories, Missing, TableColumn
from hpcnn.job.section import NonNegativeInt


class Digits(DataSection, frozen=True, kw_only=True, tag="digits"):
    """The UCI handwritten digits, shipped with hpcnn: 1,797 images of 8 x 8, ten classes."""


class Sklearn(DataSection, frozen=True, kw_only=True, tag="sklearn"):
    """A data set that comes with scikit-learn (extra `sklearn`)."""

    name: Literal["breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine"]
    """Name of the data set."""


class Memory(DataSection, frozen=True, kw_only=True, tag="memory"):
    """Arrays passed to `hpcnn.fit` in a Python program; it sets all keys of this kind."""

    x_shape: list[int] = []
    """Shape of the inputs, the samples first."""
    y_shape: list[int] = []
    """Shape of the targets, the samples first."""
    validation_samples: NonNegativeInt = 0
    """Number of samples for validation."""
    sha256: str = ""
    """Hash of all arrays: a run resumes only with the same data."""
    categories: Categories = "one_hot"
    """What becomes of words in tables with named columns; see the same key of files."""
    missing: Missing = "error"
    """What replaces missing inputs of such tables."""
    columns: dict[str, TableColumn] = {}
    """Settings of single columns by name."""

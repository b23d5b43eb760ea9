"""`[data]`: source and preprocessing of the samples."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from hpcnn.job.section import Fraction, NonNegative, NonNegativeInt, PositiveInt, Section, Text


class DataSection(Section, frozen=True, kw_only=True, tag_field="source"):
    """Settings of every data source."""

    validation_fraction: Fraction = 0.0
    """Fraction of the samples held out for validation, chosen with `train.seed`."""
    scale: Literal["none", "standardize", "minmax"] = "none"
    """Scale the inputs to mean 0 and standard deviation 1, or to [0, 1], with statistics of the training split."""
    scale_over: Literal["feature", "all"] = "feature"
    """Statistics per feature, or over all features (images)."""
    one_hot: bool = False
    """Convert integer labels to one-hot rows of the width of the model's output."""


class Digits(DataSection, frozen=True, kw_only=True, tag="digits"):
    """The UCI handwritten digits, shipped with hpcnn: 1,797 images of 8 x 8, ten classes."""


class FileSection(DataSection, frozen=True, kw_only=True):
    """Settings of sources in which one file holds inputs and targets."""

    path: Text
    """The file."""
    validation_path: str = ""
    """A second file, for validation."""


class Npz(FileSection, frozen=True, kw_only=True, tag="npz"):
    """One NumPy `.npz` archive."""

    x: Text = "x"
    """Name of the array of inputs."""
    y: Text = "y"
    """Name of the array of targets."""


class Npy(DataSection, frozen=True, kw_only=True, tag="npy"):
    """A pair of NumPy `.npy` files, memory-mapped."""

    x_path: Text
    """Inputs, one row per sample."""
    y_path: Text
    """Targets, one row per sample."""
    validation_x_path: str = ""
    """Inputs for validation."""
    validation_y_path: str = ""
    """Targets for validation."""


class Idx(DataSection, frozen=True, kw_only=True, tag="idx"):
    """IDX files, the format of MNIST; each may end in `.gz`."""

    folder: Text
    """Folder of the files."""
    images: Text = "train-images-idx3-ubyte"
    """File of training images."""
    labels: Text = "train-labels-idx1-ubyte"
    """File of training labels."""
    validation_images: str = "t10k-images-idx3-ubyte"
    """File of validation images; `""` for none: `--set 'data.validation_images=""'` (without quotes: the default)."""
    validation_labels: str = "t10k-labels-idx1-ubyte"
    """File of validation labels; `""` for none, as with the images."""


class Csv(FileSection, frozen=True, kw_only=True, tag="csv"):
    """A CSV file of numbers."""

    targets: Annotated[list[str | int], Meta(min_length=1)]
    """Columns to predict: names, or positions from 0 (-1 is the last)."""
    delimiter: Annotated[str, Meta(min_length=1, max_length=1)] = ","
    """Separator of columns."""
    header: bool = True
    """Whether the first line names the columns."""


class Hdf5(FileSection, frozen=True, kw_only=True, tag="hdf5"):
    """Two data sets of one HDF5 file, read row by row (extra `hdf5`)."""

    x: Text = "x"
    """Path of the inputs in the file."""
    y: Text = "y"
    """Path of the targets in the file."""


class Parquet(FileSection, frozen=True, kw_only=True, tag="parquet"):
    """A Parquet table of numbers (extra `parquet`)."""

    targets: Annotated[list[str], Meta(min_length=1)]
    """Columns to predict."""


class Sklearn(DataSection, frozen=True, kw_only=True, tag="sklearn"):
    """A data set that comes with scikit-learn (extra `sklearn`)."""

    name: Literal["breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine"]
    """Name of the data set."""


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


Data = Digits | Npz | Npy | Idx | Csv | Hdf5 | Parquet | Sklearn | Synthetic | Memory

LOCATIONS = (
    "folder", "path", "x_path", "y_path", "images", "labels", "validation_path", "validation_x_path",
    "validation_y_path", "validation_images", "validation_labels",
)  # fmt: skip
"""Settings that only locate the data."""
CONTENT_SETTINGS = frozenset({*LOCATIONS, "x_shape", "y_shape", "validation_samples", "sha256"})
"""Settings that do not affect the result where the data themselves are compared."""

"""`[data]`: settings of every source, and of those with one file."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from hpcnn.job.augment import Augment
from hpcnn.job.section import Fraction, NonNegativeInt, PositiveInt, Section, Text
from hpcnn.job.window import Window

Texts = Text | Annotated[list[Text], Meta(min_length=1)]


class DataSection(Section, frozen=True, kw_only=True, tag_field="source"):
    """Settings of every data source."""

    validation_fraction: Fraction = 0.0
    """Fraction of the samples held out for validation, chosen with `train.seed`."""
    validation_split: Literal["random", "stratified", "group", "last"] = "random"
    """Which samples `validation_fraction` or `fold` hold out. `random`: any. `stratified`: the same share of each \
class. `group`: whole groups of samples that belong together. `last`: the last ones, for series."""
    validation_gap: NonNegativeInt = 0
    """`last`: samples beside those that are held out that are left out of the training, so that windows do not \
overlap."""
    fold: str = ""
    """Fold for cross-validation, in place of `validation_fraction`: `"2/5"` holds out the second of five parts, for \
`last` of consecutive samples."""
    scale: Literal["none", "standardize", "minmax"] = "none"
    """Scale the inputs to mean 0 and standard deviation 1, or to [0, 1], with statistics of the training split."""
    scale_over: Literal["feature", "channel", "all"] = "feature"
    """Statistics per feature, per entry of the last axis (the channels of images and grids), or over all features."""
    scale_targets: Literal["none", "standardize", "minmax"] = "none"
    """The same of targets that are numbers. The loss is that of scaled targets; metrics and predictions are in the \
units of the data."""
    scale_targets_over: Literal["feature", "channel", "all"] = "feature"
    """Statistics per target, per entry of their last axis, or over all."""
    one_hot: bool = False
    """Convert integer labels to one-hot rows of the width of the model's output."""
    augment: Augment | None = None
    """Random changes of the training images."""
    window: Window | None = None
    """Windows over rows that are in the order of time, as samples."""
    order: Literal["global", "windows"] = "global"
    """Order of the samples in an epoch, with `train.shuffle`. `global`: any order of all samples. `windows`: chunks \
of consecutive rows in random order, and their rows shuffled within windows of `window_chunks` chunks, for files that \
are larger than the memory. It affects the result."""
    chunk_rows: NonNegativeInt = 0
    """`windows`: rows in a chunk; 0: those of the file (of HDF5, the first axis of its chunks), or 1 MiB of rows."""
    window_chunks: PositiveInt = 32
    """`windows`: chunks in a window. A node holds the chunks of two windows in memory, where the file has chunks."""
    prefetch: NonNegativeInt = 2
    """Batches that each rank reads ahead while it computes, of data that are not in memory; 0: none. Same result."""
    keep: Literal["auto", "memory", "file"] = "auto"
    """Where a file that is decoded in chunks, as compressed HDF5, is read from. `memory`: from memory that the ranks \
of a node share, into which they decode it once at the start. `file`: from the file in each epoch. `auto`: from memory \
if that takes at most a quarter of what is free. Same result."""
    cache: str = ""
    """Folder for a copy of the data that only needs to be mapped: the first job that reads them writes it, later ones \
find it. For tables, compressed archives and folders of many files. Same result."""
    stage: str = ""
    """Folder on a disk of each node, as "/tmp" or "$TMPDIR", that files are copied to before the training. Same \
result."""


class FileSection(DataSection, frozen=True, kw_only=True):
    """Settings of sources in which one file holds inputs and targets."""

    path: Text
    """The file; of tables also a folder of parts, a pattern with `*`, `?` or `[...]`, or an address, as `s3://…`."""
    validation_path: str = ""
    """A second file, for validation."""

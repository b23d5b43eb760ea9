"""`[data]`: source and preprocessing of the samples."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from hpcnn.job.augment import Augment
from hpcnn.job.section import Fraction, NonNegative, NonNegativeInt, PositiveInt, Section, Text
from hpcnn.job.window import Window

Texts = Text | Annotated[list[Text], Meta(min_length=1)]
Steps = Annotated[int, Meta(ge=1, le=1_048_576)]
"""Of a synthetic sample, so that one fits into memory."""
Parts = Annotated[int, Meta(ge=1, le=1000)]
"""What a synthetic sample is made of."""


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
    """Where a file that is decoded in chunks, as HDF5, is read from. `memory`: from memory that the ranks of a node \
share, into which they decode it once at the start. `file`: from the file in each epoch. `auto`: from memory if that \
takes at most a quarter of what is free. Same result."""
    cache: str = ""
    """Folder for a copy of the data that only needs to be mapped: the first job that reads them writes it, later ones \
find it. For tables, compressed archives and folders of many files. Same result."""
    stage: str = ""
    """Folder on a disk of each node, as "/tmp" or "$TMPDIR", that files are copied to before the training. Same \
result."""


class Digits(DataSection, frozen=True, kw_only=True, tag="digits"):
    """The UCI handwritten digits, shipped with hpcnn: 1,797 images of 8 x 8, ten classes."""


class FileSection(DataSection, frozen=True, kw_only=True):
    """Settings of sources in which one file holds inputs and targets."""

    path: Text
    """The file; of tables also a folder of parts, a pattern with `*`, `?` or `[...]`, or an address, as `s3://…`."""
    validation_path: str = ""
    """A second file, for validation."""


class TableColumn(Section, frozen=True, kw_only=True):
    """How one column of a table becomes numbers, where that differs from the other columns."""

    kind: Literal["auto", "number", "category", "date"] = "auto"
    """What it holds; `auto`: what its values look like. `category` makes categories of numbers, such as codes."""
    order: list[Text] = []
    """Words in their order: the column becomes one number, the place of its word, from 0."""
    categories: Literal["", "one_hot", "integer"] = ""
    """As `data.categories`, for this column."""
    missing: Literal["", "error", "mean", "median", "most_frequent", "indicator"] = ""
    """As `data.missing`, for this column."""


Categories = Literal["one_hot", "integer"]
Missing = Literal["error", "mean", "median", "most_frequent", "indicator"]


class TableSection(FileSection, frozen=True, kw_only=True):
    """Settings of tables with columns."""

    targets: Annotated[list[str | int], Meta(min_length=1)]
    """Columns to predict: names, patterns with `*` and `?`, or positions from 0 (-1 is the last)."""
    inputs: list[Text] | dict[str, list[Text]] = []
    """Columns that are inputs: names, in this order, or patterns; empty: all others, sorted by name. A table of lists \
gives the model several inputs by name."""
    exclude: list[Text] = []
    """Columns that are left out: names or patterns."""
    weights: str = ""
    """Column of the weights of the samples."""
    group: str = ""
    """Column that says which samples belong together."""
    validation_column: str = ""
    """Column that says which rows are held out for validation: those with one of `validation_values`."""
    validation_values: list[str | int | bool] = []
    """Its values in these rows, as `["test"]`."""
    categories: Categories = "one_hot"
    """What becomes of words: a column of zeros and ones a word, or one number a word from 1 (0: an unknown word)."""
    missing: Missing = "error"
    """What replaces missing inputs; `indicator`: the mean, and one more column that says where."""
    columns: dict[str, TableColumn] = {}
    """Settings of single columns by name."""


class ArraySection(FileSection, frozen=True, kw_only=True):
    """Settings of files with named arrays, whose first axis is that of the samples."""

    x: Texts = "x"
    """Name of the array of inputs; or a list of them, side by side, which are the model's inputs by name."""
    y: str | Annotated[list[Text], Meta(min_length=1)] = "y"
    """Name of the array of targets; or a list of them, side by side, in the order of the model's outputs. Empty, with \
`window`: the inputs themselves, later."""
    weights: str = ""
    """Name of the array of weights of the samples."""
    group: str = ""
    """Name of the array that says which samples belong together."""
    validation_x: str | list[Text] = ""
    """Name of an array of inputs for validation, of the same file; or a list."""
    validation_y: str | list[Text] = ""
    """The same of targets."""
    validation_weights: str = ""
    """The same of weights."""


class Npz(ArraySection, frozen=True, kw_only=True, tag="npz"):
    """One NumPy `.npz` archive."""


class Npy(DataSection, frozen=True, kw_only=True, tag="npy"):
    """A pair of NumPy `.npy` files, memory-mapped."""

    x_path: Text
    """Inputs, one row per sample."""
    y_path: str
    """Targets, one row per sample. Empty, with `window`: the inputs themselves, later."""
    validation_x_path: str = ""
    """Inputs for validation."""
    validation_y_path: str = ""
    """Targets for validation."""
    weights_path: str = ""
    """Weights of the samples, one number each."""
    validation_weights_path: str = ""
    """The same for validation."""
    group_path: str = ""
    """Numbers that say which samples belong together."""


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


class Cifar(DataSection, frozen=True, kw_only=True, tag="cifar"):
    """CIFAR-10 or CIFAR-100 in the binary version: images of (32, 32, 3), memory-mapped."""

    folder: Text
    """Folder of the unpacked archive, or the one that holds it; or one of its `.bin` files."""
    name: Literal["cifar10", "cifar100"] = "cifar10"
    """Which of the two."""
    labels: Literal["fine", "coarse"] = "fine"
    """CIFAR-100: its 100 classes, or their 20 groups."""
    part: Literal["both", "train", "test"] = "both"
    """Train on the training batches and validate on the test batch, or use one of them alone."""


class PictureSection(DataSection, frozen=True, kw_only=True):
    """Settings of sources of pictures."""

    classes: list[Text] = []
    """The classes in the order of their numbers. Empty: those that there are, sorted by code point."""
    mask_values: list[NonNegativeInt] = []
    """Values of the masks in the order of their classes, as [0, 255]. Empty: the values are the classes."""
    size: Annotated[list[PositiveInt], Meta(max_length=2)] = []
    """[height, width] that pictures are brought to. Empty: all have one size."""
    resize: Literal["stretch", "crop", "pad"] = "stretch"
    """How: change the proportions, cut off the longer side at both ends, or pad the shorter side with 0."""
    channels: Literal["rgb", "grey"] = "rgb"
    """Three channels, or one. Pictures of 16 bits or floats are grey."""


class Images(PictureSection, frozen=True, kw_only=True, tag="images"):
    """Pictures in files, (height, width, 3) or (height, width, 1), decoded when they are taken (extra `images`)."""

    folder: Text
    """A folder for each class, with its pictures; or `train` and `val` (`validation`, `valid`, `test`), each with \
such folders; or with `masks` or `table`, the pictures."""
    table: str = ""
    """A CSV or Parquet file, a row a picture, instead of a folder for each class."""
    validation_table: str = ""
    """The same for validation."""
    paths: Text = "file"
    """`table`: column of the paths of the pictures in `folder`."""
    targets: list[Text] = []
    """`table`: columns to predict, by name or pattern: words, which are classes, or numbers."""
    masks: str = ""
    """Folder of masks, with the same names as the pictures: the class of each pixel."""


class WebDataset(PictureSection, frozen=True, kw_only=True, tag="webdataset"):
    """Samples in tar archives: files whose names differ in the ending alone are one sample, read in place."""

    shards: Text
    """The archives: a file, or many by a pattern, as `train-{000..127}.tar`, `{a,b}.tar` or `train-*.tar`."""
    validation_shards: str = ""
    """The same for validation."""
    x: Text = "jpg;jpeg;png"
    """Ending of the files of inputs: those of pictures (extra `images`), or `npy`; several, by `;`, in place of one \
another."""
    y: Text = "cls"
    """Ending of those of targets: texts, as `cls` and `txt`, with a class or a number; `json:KEY`, a value in a file; \
`npy`; or a picture, the mask."""


class Csv(TableSection, frozen=True, kw_only=True, tag="csv"):
    """Text files of numbers, words and dates: CSV, and others with one line a row."""

    delimiter: str = ""
    """Separator of columns; `whitespace`: any number of blanks and tabs. Empty: found by a look at the first lines."""
    decimal: Literal["auto", ".", ","] = "auto"
    """Decimal separator; `auto`: found by a look at the numbers, where it is clear."""
    encoding: str = ""
    """Encoding of the text, as `latin-1`. Empty: UTF-8, or what a mark at the beginning says."""
    comment: str = ""
    """What comment lines begin with, as `#`; empty: there are none."""
    header: bool = True
    """Whether the first line names the columns."""


class GridSection(ArraySection, frozen=True, kw_only=True):
    """Settings of files with named arrays in groups, which may become channels."""

    stack: Literal["inputs", "channels"] = "inputs"
    """What a list of arrays in `x` or `y` becomes. `inputs`: several inputs of the model by name, side by side; of \
targets, those of its outputs in order. `channels`: one array with a new last axis, as (lat, lon, 3); a single array \
gets one, too."""
    coordinates: list[Text] = []
    """`channels`: arrays that become further channels, repeated along the axes that they lack: as `lat`, `lon`."""
    fill: float | None = None
    """Number in place of missing inputs. Without it they are refused; so are missing targets."""
    mask_channel: bool = False
    """With `fill`: one more channel, 1 where a value was missing in any of the others, else 0."""


class Hdf5(GridSection, frozen=True, kw_only=True, tag="hdf5"):
    """Arrays of one HDF5 or netCDF-4 file, by names with their groups (`group/x`), read row by row (extra `hdf5`)."""


class Zarr(GridSection, frozen=True, kw_only=True, tag="zarr"):
    """Arrays of one Zarr store, format 2 or 3, by names with groups: folder, `.zip` file or address (extra `zarr`)."""


class Parquet(TableSection, frozen=True, kw_only=True, tag="parquet"):
    """A Parquet table of numbers, words and dates (extra `parquet`)."""


class Feather(TableSection, frozen=True, kw_only=True, tag="feather"):
    """A Feather table of numbers, words and dates (extra `parquet`)."""


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


class TextFiles(DataSection, frozen=True, kw_only=True, tag="text"):
    """The characters of text files, as integers: inputs are windows of them, targets the same one place later.

    With `validation_fraction` the end of the text is held out, not windows chosen at random.
    """

    path: Text
    """The file, UTF-8; a pattern with `*`, `?` or `[...]` takes all files that match, in order of their names."""
    length: PositiveInt = 64
    """Number of characters in a window."""
    stride: NonNegativeInt = 0
    """Distance of the starts of two windows; 0: `length`."""
    units: Literal["character", "byte"] = "character"
    """What is numbered: each distinct character, or each byte by its value, 0 to 255."""
    vocabulary: str = ""
    """`character`: the characters in the order of their numbers. Empty: those of the text, sorted by code point."""


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


Data = (
    Digits | Npz | Npy | Idx | Cifar | Images | WebDataset | Csv | Hdf5 | Zarr | Parquet | Feather | Sklearn
    | Synthetic | Shapes | TextFiles | Heat | Series | Memory
)  # fmt: skip

PICTURE_ENDINGS = ("png", "jpg", "jpeg", "tif", "tiff", "bmp", "webp", "gif")
"""What the names of pictures end in."""
ENCODING = ("categories", "missing", "columns")
"""Settings of how tables become numbers."""
LOCATIONS = (
    "folder", "path", "x_path", "y_path", "images", "labels", "validation_path", "validation_x_path",
    "validation_y_path", "validation_images", "validation_labels", "table", "validation_table", "masks",
    "shards", "validation_shards",
    "weights_path", "validation_weights_path", "group_path",
)  # fmt: skip
"""Settings that only locate the data."""
CONTENT_SETTINGS = frozenset({*LOCATIONS, "x_shape", "y_shape", "validation_samples", "sha256"})
"""Settings that do not affect the result where the data themselves are compared."""
DATA_SPEED_SETTINGS = ("prefetch", "keep", "cache", "stage")
"""Keys that do not change the result."""
AFTER_READING = (
    "validation_split", "validation_gap", "fold", "scale", "scale_over", "scale_targets", "scale_targets_over",
    "one_hot", "augment", "order", "chunk_rows", "window_chunks", *DATA_SPEED_SETTINGS,
)  # fmt: skip
"""Keys that readers do not know: they change nothing of what is read."""

"""`[data]`: pictures, in files of their own and in those of well-known sets."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from hpcnn.job.data.base import DataSection
from hpcnn.job.section import NonNegativeInt, PositiveInt, Text

PICTURE_ENDINGS = ("png", "jpg", "jpeg", "tif", "tiff", "bmp", "webp", "gif")
"""What the names of pictures end in."""


class Idx(DataSection, frozen=True, kw_only=True, tag="idx"):
    """IDX files, the format of MNIST; each may end in `.gz`."""

    folder: Text
    """Folder of the files."""
    images: Text = "train-images-idx3-ubyte"
    """File of training images."""
    labels: Text = "train-labels-idx1-ubyte"
    """File of training labels."""
    validation_images: str = "t10k-images-idx3-ubyte"
    """File of validation images; `""` for none: `--set 'data.validation_images=""'`."""
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
    weights: str = ""
    """`table`: column of the weights of the samples."""
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

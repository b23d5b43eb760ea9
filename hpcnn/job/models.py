"""`[model.options]`: the settings of the networks that have a name, `model.name`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta

from hpcnn.job.section import Fraction, NonNegative, PositiveInt, Section

Depth = Annotated[int, Meta(ge=1, le=2000)]
"""A number that decides how many layers there are."""
Levels = Annotated[int, Meta(ge=1, le=20)]
Statistics = Literal["batch", "shard"]


class ResNet(Section, frozen=True, kw_only=True):
    """Residual network for small images (He et al., 2016, section 4.2)."""

    depth: Depth = 20
    """Number of weighted layers, 6n + 2."""
    filters: PositiveInt = 16
    """Filters of the first stage; the second and third have two and four times as many."""
    classes: PositiveInt = 10
    """Number of classes."""
    statistics: Statistics = "batch"
    """Samples that a batch normalisation in training takes its statistics from, see `batch_normalization`."""
    l2: NonNegative = 0.0
    """Penalty on the sum of kernel^2 of all layers."""


class UNet(Section, frozen=True, kw_only=True):
    """Segmentation of images: a class for each pixel (Ronneberger, Fischer and Brox, 2015), with padding."""

    filters: PositiveInt = 16
    """Filters of the first level; each further one has twice as many."""
    levels: Levels = 3
    """How often the image is halved: height and width must be multiples of 2^levels."""
    classes: PositiveInt = 2
    """Number of classes; 1: one probability for each pixel."""
    batch_normalization: bool = True
    """Whether to normalise behind each convolution."""
    statistics: Statistics = "batch"
    """Samples that a batch normalisation in training takes its statistics from, see `batch_normalization`."""


class Vgg(Section, frozen=True, kw_only=True):
    """Convolutions of 3 x 3 and pooling (Simonyan and Zisserman, 2015)."""

    depth: Depth = 16
    """Number of weighted layers: 11, 13, 16 or 19."""
    filters: PositiveInt = 64
    """Filters of the first stage; up to eight times as many follow."""
    units: PositiveInt = 4096
    """Width of the two hidden dense layers."""
    classes: PositiveInt = 10
    """Number of classes."""
    dropout: Fraction = 0.5
    """Rate of the dropout behind the hidden dense layers."""
    batch_normalization: bool = False
    """Whether to normalise behind each convolution."""
    statistics: Statistics = "batch"
    """Samples that a batch normalisation in training takes its statistics from, see `batch_normalization`."""


class MobileNet(Section, frozen=True, kw_only=True):
    """Depthwise separable convolutions (Howard et al., 2017: version 1)."""

    filters: PositiveInt = 32
    """Filters of the first convolution; up to 32 times as many follow. 16 is the paper's width multiplier 0.5."""
    classes: PositiveInt = 10
    """Number of classes."""
    strides: PositiveInt = 2
    """Strides of the first convolution; 1 for small images."""
    dropout: Fraction = 0.001
    """Rate of the dropout before the last layer."""
    statistics: Statistics = "batch"
    """Samples that a batch normalisation in training takes its statistics from, see `batch_normalization`."""


class Transformer(Section, frozen=True, kw_only=True):
    """Blocks of attention and a dense network, each behind a layer normalisation (Vaswani et al., 2017)."""

    kind: Literal["encoder", "decoder", "vision"] = "encoder"
    """`encoder`: a class for ids; `decoder`: the next id at each position; `vision`: a class for images."""
    layers: Depth = 2
    """Number of blocks."""
    width: PositiveInt = 64
    """Length of the vector of a position; a multiple of `heads`."""
    heads: PositiveInt = 4
    """Number of heads of each attention."""
    hidden: PositiveInt = 256
    """Width of the hidden dense layer of a block."""
    vocabulary: PositiveInt = 256
    """`encoder` and `decoder`: number of ids, which are whole numbers from 0 on."""
    classes: PositiveInt = 10
    """`encoder` and `vision`: number of classes."""
    patch: PositiveInt = 4
    """`vision`: height and width of the patches that an image is cut into."""
    dropout: Fraction = 0.0
    """Rate of the dropout behind each attention and each dense network."""


class LstmStack(Section, frozen=True, kw_only=True):
    """LSTM layers one above the other, and a dense layer behind the last step."""

    units: PositiveInt = 64
    """Width of each layer."""
    layers: Depth = 2
    """Number of LSTM layers."""
    outputs: PositiveInt = 1
    """Number of outputs."""
    activation: Literal["linear", "sigmoid", "softmax"] = "linear"
    """Activation of the outputs."""
    bidirectional: bool = False
    """Whether each layer goes through the sequence in both directions."""
    dropout: Fraction = 0.0
    """Rate of the dropout behind each LSTM layer."""


class Tcn(Section, frozen=True, kw_only=True):
    """Residual blocks of causal convolutions with growing dilation (Bai, Kolter and Koltun, 2018)."""

    filters: PositiveInt = 32
    """Filters of each convolution."""
    levels: Levels = 4
    """Number of blocks; the dilation of block i is 2^i."""
    kernel_size: PositiveInt = 3
    """Taps of a convolution."""
    outputs: PositiveInt = 1
    """Number of outputs."""
    activation: Literal["linear", "sigmoid", "softmax"] = "linear"
    """Activation of the outputs."""
    pooling: Literal["average", "none"] = "average"
    """`average`: outputs for the mean over all steps; `none`: outputs for each step, from it and those before."""
    dropout: Fraction = 0.0
    """Rate of the dropout behind each convolution."""


class Fno(Section, frozen=True, kw_only=True):
    """Fourier neural operator in one dimension (Li et al., 2021), without coordinates among its inputs."""

    modes: PositiveInt = 12
    """Number of frequencies that are mixed, from 0 on; at most points / 2 + 1."""
    width: PositiveInt = 32
    """Number of channels."""
    layers: Depth = 4
    """Number of Fourier layers."""
    hidden: PositiveInt = 128
    """Width of the dense layer before the last."""
    outputs: PositiveInt = 1
    """Number of outputs at each point."""


OPTIONS: Mapping[str, type[Section]] = {
    "resnet": ResNet,
    "unet": UNet,
    "vgg": Vgg,
    "mobilenet": MobileNet,
    "transformer": Transformer,
    "lstm_stack": LstmStack,
    "tcn": Tcn,
    "fno": Fno,
}
"""The section of each name."""

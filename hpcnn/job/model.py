"""`[model]` and `[loss]`: the network and its loss."""

from __future__ import annotations

from typing import Any, Literal

from hpcnn.job.layers import Layer
from hpcnn.job.section import Fraction, Positive, PositiveInt, Section


class Model(Section, frozen=True, kw_only=True):
    """The network: a list of layers, or a Python function that returns one."""

    layers: list[Layer] = []
    """The layers, first to last."""
    entry: str = ""
    """`package.module:function` that returns the model (an `hpcnn.nn.Network`), instead of `layers`."""
    options: dict[str, Any] = {}
    """Keyword arguments for `entry`."""
    input_shape: list[PositiveInt] | None = None
    """Shape of one sample; default: that of the data, from which it may differ by axes of length 1."""
    initial_weights: str = ""
    """Checkpoint to start from: parameters of the same name and shape are copied."""


class LossSection(Section, frozen=True, kw_only=True, tag_field="name"):
    """The loss to minimise: the mean over samples, plus the penalties of the layers."""


class Mse(LossSection, frozen=True, kw_only=True, tag="mse"):
    """Mean squared error."""


class Mae(LossSection, frozen=True, kw_only=True, tag="mae"):
    """Mean absolute error."""


class Huber(LossSection, frozen=True, kw_only=True, tag="huber"):
    """Quadratic for small errors, linear for large ones."""

    delta: Positive = 1.0
    """Where the linear part begins."""


class ClassLoss(LossSection, frozen=True, kw_only=True):
    """Settings of every classification loss."""

    label_smoothing: Fraction = 0.0
    """Fraction of each label that is spread over all classes."""
    class_weights: Literal["none", "balanced"] | list[float] = "none"
    """Weight of each class in the loss; `balanced`: samples / (classes x samples of the class)."""


class BinaryCrossentropy(ClassLoss, frozen=True, kw_only=True, tag="binary_crossentropy"):
    """For outputs between 0 and 1; exact and stable after a sigmoid."""


class CategoricalCrossentropy(ClassLoss, frozen=True, kw_only=True, tag="categorical_crossentropy"):
    """For one-hot targets; exact and stable after a softmax."""


class SparseCategoricalCrossentropy(ClassLoss, frozen=True, kw_only=True, tag="sparse_categorical_crossentropy"):
    """For integer labels; exact and stable after a softmax."""


Loss = Mse | Mae | Huber | BinaryCrossentropy | CategoricalCrossentropy | SparseCategoricalCrossentropy

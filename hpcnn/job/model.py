"""`[model]` and `[loss]`: the network and its loss."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from hpcnn.job.section import Fraction, NonNegative, Positive, PositiveInt, Section

Activation = Literal[
    "linear", "relu", "leaky_relu", "elu", "selu", "gelu", "swish", "softplus", "sigmoid", "tanh", "softmax"
]
Initializer = Literal[
    "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_uniform", "lecun_normal", "orthogonal",
    "zeros", "ones",
]  # fmt: skip


class LayerSection(Section, frozen=True, kw_only=True, tag_field="type"):
    """Settings of every layer."""

    name: str = ""
    """Name of the layer, also in checkpoints; default: `<type>_<number>`."""

    @property
    def children(self) -> list[Layer]:
        """The inner layers: of containers, which have them under the key `layers`."""
        inner: list[Layer] = getattr(self, "layers", [])
        return inner


class Dense(LayerSection, frozen=True, kw_only=True, tag="dense"):
    """y = activation(x . kernel + bias), over the last axis."""

    units: PositiveInt
    """Width of the output."""
    activation: Activation = "linear"
    """Applied to the output."""
    use_bias: bool = True
    """Whether to add a bias."""
    kernel_initializer: Initializer = "glorot_uniform"
    """Initializer of the kernel."""
    bias_initializer: Literal["zeros", "ones"] = "zeros"
    """Initializer of the bias."""
    kernel_l1: NonNegative = 0.0
    """Penalty on the sum of |kernel|."""
    kernel_l2: NonNegative = 0.0
    """Penalty on the sum of kernel^2."""
    bias_l1: NonNegative = 0.0
    """Penalty on the sum of |bias|."""
    bias_l2: NonNegative = 0.0
    """Penalty on the sum of bias^2."""
    trainable: bool = True
    """`false` freezes the layer."""


class ActivationLayer(LayerSection, frozen=True, kw_only=True, tag="activation"):
    """An activation as a layer."""

    activation: Activation
    """The activation function."""


class Flatten(LayerSection, frozen=True, kw_only=True, tag="flatten"):
    """Flattens each sample to one axis."""


class Reshape(LayerSection, frozen=True, kw_only=True, tag="reshape"):
    """Reshapes each sample."""

    shape: Annotated[list[int], Meta(min_length=1)]
    """Shape of a sample; one entry may be -1."""


class Dropout(LayerSection, frozen=True, kw_only=True, tag="dropout"):
    """Zeroes inputs at random during training, and scales up the others."""

    rate: Fraction
    """Fraction of the inputs to drop."""


class LayerNorm(LayerSection, frozen=True, kw_only=True, tag="layer_norm"):
    """Normalises the last axis of each sample, then scales and shifts it."""

    epsilon: Positive = 0.001
    """Added to the variance."""
    center: bool = True
    """Whether to learn a shift (beta)."""
    scale: bool = True
    """Whether to learn a scale (gamma)."""
    trainable: bool = True
    """`false` freezes the layer."""


class Residual(LayerSection, frozen=True, kw_only=True, tag="residual"):
    """y = x + layers(x); the inner layers must keep the shape."""

    layers: Annotated[list[Layer], Meta(min_length=1)]
    """The inner layers."""


Layer = Dense | ActivationLayer | Flatten | Reshape | Dropout | LayerNorm | Residual


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

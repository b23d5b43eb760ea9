"""`[model]` and `[loss]`: the network and its loss."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from hpcnn.job.layers import Layer
from hpcnn.job.section import Fraction, NonNegative, Positive, PositiveInt, Section, Text

Metric = Literal[
    "accuracy", "binary_accuracy", "categorical_accuracy", "sparse_categorical_accuracy", "top_k_accuracy",
    "mae", "mse", "r2", "precision", "recall", "f1", "iou", "mean_iou",
    "perplexity", "auc", "confusion_matrix",
]  # fmt: skip

ModelName = Literal["resnet", "unet", "vgg", "mobilenet", "transformer", "lstm_stack", "tcn", "fno"]


class Model(Section, frozen=True, kw_only=True):
    """The network: a list of layers, the name of a known network, or a Python function that returns one."""

    layers: list[Layer] = []
    """The layers, first to last."""
    entry: str = ""
    """`package.module:function` that returns the model (an `hpcnn.nn.Network`), instead of `layers`."""
    name: ModelName | None = None
    """A known network, instead of `layers`; its sizes are its `options`."""
    options: dict[str, Any] = {}
    """Keyword arguments for `entry`, or the sizes of the network that `name` names."""
    input_shape: list[PositiveInt] | None = None
    """Shape of one sample; default: that of the data, from which it may differ by axes of length 1."""
    inputs: dict[str, Annotated[list[PositiveInt], Meta(min_length=1)]] = {}
    """Several inputs: a table of their shapes by the names by which layers take them, in the order in which they are \
in a sample; default: one input, or those that the data name."""
    outputs: list[Text] = []
    """Several outputs: the names of layers, in the order of their targets; each has a loss in `[losses]`. Default: \
the last layer."""
    initial_weights: str = ""
    """Checkpoint to start from: parameters of the same name and shape are copied."""


class LossSection(Section, frozen=True, kw_only=True, tag_field="name"):
    """The loss to minimise: the mean over samples, plus the penalties of the layers."""

    weight: Positive = 1.0
    """Of one of several `[losses]` alone: its factor in their sum."""
    metrics: list[Metric] = []
    """Of one of several `[losses]` alone: metrics of this output."""


class Mse(LossSection, frozen=True, kw_only=True, tag="mse"):
    """Mean squared error."""


class Mae(LossSection, frozen=True, kw_only=True, tag="mae"):
    """Mean absolute error."""


class Huber(LossSection, frozen=True, kw_only=True, tag="huber"):
    """Quadratic for small errors, linear for large ones."""

    delta: Positive = 1.0
    """Where the linear part begins."""


class Mape(LossSection, frozen=True, kw_only=True, tag="mape"):
    """Mean absolute error in percent of the target."""


class Msle(LossSection, frozen=True, kw_only=True, tag="msle"):
    """Mean squared error of the logarithms of 1 + output and 1 + target."""


class LogCosh(LossSection, frozen=True, kw_only=True, tag="log_cosh"):
    """Logarithm of the hyperbolic cosine of the error: as Huber's loss, but smooth."""


class Poisson(LossSection, frozen=True, kw_only=True, tag="poisson"):
    """For counts: the outputs, above 0, are how many are expected."""


class Hinge(LossSection, frozen=True, kw_only=True, tag="hinge"):
    """For two classes, -1 and 1 or 0 and 1, and outputs of any size (support vector machines)."""


class CosineSimilarity(LossSection, frozen=True, kw_only=True, tag="cosine_similarity"):
    """Minus the cosine of the angle between output and target."""


class KLDivergence(LossSection, frozen=True, kw_only=True, tag="kl_divergence"):
    """Kullback-Leibler divergence of rows of probabilities."""


class Dice(LossSection, frozen=True, kw_only=True, tag="dice"):
    """1 - the Dice coefficient of each sample, over all of its outputs: for masks."""


class Iou(LossSection, frozen=True, kw_only=True, tag="iou"):
    """1 - the soft Jaccard index (intersection over union) of each sample, over all of its outputs: for masks."""


class Ctc(LossSection, frozen=True, kw_only=True, tag="ctc"):
    """For sequences of labels whose places in time are not known; class 0 of the outputs is the blank."""


class Contrastive(LossSection, frozen=True, kw_only=True, tag="contrastive"):
    """For two embeddings of each sample, outputs (2, dim), which are to be closer than those of the batch's others."""

    temperature: Positive = 0.1
    """Cosines of embeddings are divided by it: the lower, the more the closest of the others count."""
    symmetric: bool = True
    """Find the first embedding by the second as well as the second by the first."""


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

    ignore_class: int | None = None
    """Label of positions that do not count, in the loss and in metrics, such as 255 or -1; by default all do."""


class Focal(ClassLoss, frozen=True, kw_only=True):
    """Settings of the focal losses."""

    gamma: NonNegative = 2.0
    """Power of 1 - p by which the loss of a label is multiplied, where p is its probability."""
    alpha: Annotated[float, Meta(gt=0, le=1)] = 0.25
    """A factor of the loss; `binary_focal_crossentropy`: that of true labels, and 1 - alpha of others, with \
`apply_class_balancing`."""


class BinaryFocalCrossentropy(Focal, frozen=True, kw_only=True, tag="binary_focal_crossentropy"):
    """Binary cross-entropy in which labels that are right already count less."""

    apply_class_balancing: bool = False
    """Multiply by alpha."""


class CategoricalFocalCrossentropy(Focal, frozen=True, kw_only=True, tag="categorical_focal_crossentropy"):
    """Cross-entropy of one-hot targets in which classes that are right already count less."""


class Function(LossSection, frozen=True, kw_only=True, tag="function"):
    """A function of your own, for `backend = "torch"` with `model.entry`."""

    function: Text
    """Its name, in the Python module that `model.entry` names. It takes outputs (n, ...) and targets, and returns the \
loss of each sample, (n,)."""
    targets: Literal["values", "labels"] = "values"
    """What it takes: targets of the shape of the outputs, or integers without the last axis."""


Loss = (
    Mse
    | Mae
    | Huber
    | Mape
    | Msle
    | LogCosh
    | Poisson
    | Hinge
    | CosineSimilarity
    | KLDivergence
    | Dice
    | Iou
    | Ctc
    | Contrastive
    | BinaryCrossentropy
    | CategoricalCrossentropy
    | SparseCategoricalCrossentropy
    | BinaryFocalCrossentropy
    | CategoricalFocalCrossentropy
    | Function
)

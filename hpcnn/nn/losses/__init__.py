"""The losses. Definitions and defaults are those of Keras 3, for each sample; what else there is says so."""

from hpcnn.nn.loss import EPSILON
from hpcnn.nn.losses.contrastive import Contrastive
from hpcnn.nn.losses.crossentropies import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    Crossentropy,
    SparseCategoricalCrossentropy,
)
from hpcnn.nn.losses.ctc import CTC
from hpcnn.nn.losses.focal import BinaryFocalCrossentropy, CategoricalFocalCrossentropy
from hpcnn.nn.losses.overlaps import CosineSimilarity, Dice, IoU, KLDivergence
from hpcnn.nn.losses.registry import LOSSES
from hpcnn.nn.losses.regressions import (
    Hinge,
    Huber,
    LogCosh,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    Poisson,
)

__all__ = [
    "CTC",
    "EPSILON",
    "LOSSES",
    "BinaryCrossentropy",
    "BinaryFocalCrossentropy",
    "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy",
    "Contrastive",
    "CosineSimilarity",
    "Crossentropy",
    "Dice",
    "Hinge",
    "Huber",
    "IoU",
    "KLDivergence",
    "LogCosh",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Poisson",
    "SparseCategoricalCrossentropy",
]

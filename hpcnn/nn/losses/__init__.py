"""The losses. Definitions and defaults are those of Keras 3, for each sample; what else there is says so."""

from hpcnn.nn.loss import EPSILON, Loss
from hpcnn.nn.losses.crossentropies import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    Crossentropy,
    SparseCategoricalCrossentropy,
)
from hpcnn.nn.losses.ctc import CTC
from hpcnn.nn.losses.focal import BinaryFocalCrossentropy, CategoricalFocalCrossentropy
from hpcnn.nn.losses.overlaps import CosineSimilarity, Dice, IoU, KLDivergence
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
    "BinaryCrossentropy",
    "BinaryFocalCrossentropy",
    "CTC",
    "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy",
    "CosineSimilarity",
    "Crossentropy",
    "Dice",
    "EPSILON",
    "Hinge",
    "Huber",
    "IoU",
    "KLDivergence",
    "LOSSES",
    "LogCosh",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Poisson",
    "SparseCategoricalCrossentropy",
]

LOSSES: dict[str, type[Loss]] = {
    cls.name: cls
    for cls in (
        MeanSquaredError,
        MeanAbsoluteError,
        Huber,
        BinaryCrossentropy,
        CategoricalCrossentropy,
        SparseCategoricalCrossentropy,
        MeanAbsolutePercentageError,
        MeanSquaredLogarithmicError,
        LogCosh,
        Poisson,
        Hinge,
        BinaryFocalCrossentropy,
        CategoricalFocalCrossentropy,
        KLDivergence,
        CosineSimilarity,
        Dice,
        IoU,
        CTC,
    )
}
"""By name, in the order of the core's numbers for them."""

"""The losses by name."""

from __future__ import annotations

from hpcnn.nn.loss import Loss
from hpcnn.nn.losses.contrastive import Contrastive
from hpcnn.nn.losses.crossentropies import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
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
        Contrastive,
    )
}
"""By name, in the order of the core's numbers for them."""

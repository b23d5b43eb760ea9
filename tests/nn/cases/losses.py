"""Losses with every option, the heads that they go with, and logits and targets for them."""

from __future__ import annotations

import numpy as np

from hpcnn.nn.activations import ACTIVATIONS
from hpcnn.nn.losses import (
    BinaryCrossentropy,
    BinaryFocalCrossentropy,
    CategoricalCrossentropy,
    CategoricalFocalCrossentropy,
    CosineSimilarity,
    Dice,
    Hinge,
    Huber,
    IoU,
    KLDivergence,
    LogCosh,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    Poisson,
    SparseCategoricalCrossentropy,
)
from tests.nn.helpers import normal

LOSSES = {
    "mse": MeanSquaredError(),
    "mae": MeanAbsoluteError(),
    "huber": Huber(),
    "huber_small": Huber(delta=0.3),
    "binary": BinaryCrossentropy(),
    "binary_smooth": BinaryCrossentropy(label_smoothing=0.2),
    "categorical": CategoricalCrossentropy(),
    "categorical_smooth": CategoricalCrossentropy(label_smoothing=0.2),
    "sparse": SparseCategoricalCrossentropy(),
    "sparse_smooth": SparseCategoricalCrossentropy(label_smoothing=0.2),
    "sparse_ignoring": SparseCategoricalCrossentropy(ignore_class=1, label_smoothing=0.1),
    "sparse_ignoring_outside": SparseCategoricalCrossentropy(ignore_class=-1),
    "mape": MeanAbsolutePercentageError(),
    "msle": MeanSquaredLogarithmicError(),
    "log_cosh": LogCosh(),
    "poisson": Poisson(),
    "hinge": Hinge(),
    "binary_focal": BinaryFocalCrossentropy(),
    "binary_focal_balanced": BinaryFocalCrossentropy(
        gamma=1.5, alpha=0.3, apply_class_balancing=True, label_smoothing=0.1
    ),
    "binary_focal_0": BinaryFocalCrossentropy(gamma=0.0),
    "categorical_focal": CategoricalFocalCrossentropy(),
    "categorical_focal_smooth": CategoricalFocalCrossentropy(gamma=0.7, alpha=0.6, label_smoothing=0.2),
    "kl": KLDivergence(),
    "cosine": CosineSimilarity(),
    "dice": Dice(),
    "iou": IoU(),
}
"""All but ctc, whose outputs and targets have other shapes: see tests/nn/test_ctc.py."""

_FIRST = 10
"""The losses that were there first are tested behind every head."""
_HEADS = ("linear", "sigmoid", "softmax", "softplus")
_WAYS = [(outputs, weighted) for outputs in ((3,), (2, 4)) for weighted in (False, True)]
LOSSES_BEHIND_HEADS = [
    (name, head, *way)
    for i, (name, loss) in enumerate(LOSSES.items())
    for j, head in enumerate(ACTIVATIONS if i < _FIRST else _HEADS)
    for k, way in enumerate(_WAYS)
    if k == (i + j) % len(_WAYS) or head == loss.fused_head
]
"""Losses behind heads. Shapes of outputs and weights take turns, but for a head that has code of its own."""

_POSITIVE = ("kl_divergence", "poisson", "dice", "iou")


def loss_case(loss, outputs, n=6):
    """Return logits and targets of a loss."""
    logits = normal(n, *outputs)
    rng = np.random.default_rng(4)
    if loss.target_kind == "labels":
        labels = rng.integers(0, outputs[-1], (n, *outputs[:-1]))
        if loss.ignore_class is not None:
            labels[rng.random(labels.shape) < 0.4] = loss.ignore_class
        return logits, labels
    match loss.name:
        case "kl_divergence" | "dice" | "iou":
            return logits, rng.dirichlet(np.ones(outputs[-1]), (n, *outputs[:-1]))
        case "poisson" | "msle":
            return logits, rng.exponential(size=(n, *outputs))
        case "hinge":
            return logits, rng.choice([-1.0, 1.0], (n, *outputs))
    if "crossentropy" in loss.name:
        return logits, rng.dirichlet(np.ones(outputs[-1]), (n, *outputs[:-1]))
    return logits, normal(n, *outputs, seed=2)


def fitting_logits(loss, head, logits):
    """Return logits whose outputs are between 0 and 1, or positive, where the loss needs that and the head does not."""
    if loss.name == "binary_focal_crossentropy" and head == "softplus":
        return -abs(logits)  # outputs below 1, beyond which Keras limits one factor and not the other
    needs = "crossentropy" in loss.name or loss.name in _POSITIVE
    return 0.2 * abs(logits) + 0.1 if needs and head not in ("sigmoid", "softmax", "softplus") else logits

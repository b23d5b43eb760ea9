"""Which function of a library computes the terms of which loss: one table for Keras and PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

Terms = Callable[[Any, Any, Any], Any]
"""``(loss, outputs, targets) -> terms``, of any shape (n, ...)."""


def loss_terms(
    regressions: ModuleType, crossentropies: ModuleType, overlaps: ModuleType, ctc: Terms
) -> dict[str, tuple[Terms, Terms | None]]:
    """Return the terms of each loss: of outputs, and of logits where that is stable."""
    return {
        "mse": (regressions.mse, None),
        "mae": (regressions.mae, None),
        "huber": (regressions.huber, None),
        "mape": (regressions.mape, None),
        "msle": (regressions.msle, None),
        "log_cosh": (regressions.log_cosh, None),
        "poisson": (regressions.poisson, None),
        "hinge": (regressions.hinge, None),
        "binary_crossentropy": (crossentropies.binary, crossentropies.binary_logits),
        "categorical_crossentropy": (crossentropies.categorical, crossentropies.categorical_logits),
        "sparse_categorical_crossentropy": (crossentropies.sparse, crossentropies.sparse_logits),
        "binary_focal_crossentropy": (crossentropies.binary_focal, None),
        "categorical_focal_crossentropy": (crossentropies.categorical_focal, None),
        "kl_divergence": (overlaps.kl_divergence, None),
        "cosine_similarity": (overlaps.cosine_similarity, None),
        "dice": (overlaps.dice, None),
        "iou": (overlaps.iou, None),
        "ctc": (ctc, ctc),
    }

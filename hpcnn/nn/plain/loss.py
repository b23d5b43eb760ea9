"""Losses, and sums over samples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hpcnn.nn.arithmetic import HeadedLoss
from hpcnn.nn.workspace import Array, Workspace


class PlainLoss:
    """See `Arithmetic`."""

    def loss(
        self, ctx: Workspace, loss: HeadedLoss, logits: Array, targets: Array, weights: Array | None
    ) -> tuple[Array, Array, Callable[[], Array]]:
        """Let the loss compute itself."""
        return loss.terms(logits, targets, weights, ctx)

    def total(self, ctx: Workspace, terms: Array) -> float:
        """Add in float64."""
        return float(np.add.reduce(terms, dtype=np.float64))

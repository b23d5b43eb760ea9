"""Losses with their gradient, and sums over samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hpcnn.kernels import core
from hpcnn.nn.arithmetic import HeadedLoss
from hpcnn.nn.losses import LOSSES
from hpcnn.nn.native.base import CODES, SAVES_SLOPE, NativeBase, one_shard, real_type
from hpcnn.nn.workspace import Array, Workspace

_LOSS = ("loss",)
"""Owner of a loss's scratch arrays; no layer can have this name."""
LOSS_CODES = {name: code for code, name in enumerate(LOSSES)}
"""Numbers of the losses in the core, which lists them in the same order."""


class NativeLoss(NativeBase):
    """See `Arithmetic`."""

    def loss(
        self, ctx: Workspace, loss: HeadedLoss, logits: Array, targets: Array, weights: Array | None
    ) -> tuple[Array, Array, Callable[[], Array]]:
        """Compute losses and their gradient in one pass, behind the head."""
        logits = self._plain(logits, real_type(logits))
        weights = None if weights is None else self._plain(weights, logits.dtype)
        fused = loss.head == loss.loss.fused_head
        outputs, slopes = logits, None
        if fused or loss.head != "linear":
            outputs = ctx.scratch(_LOSS, "outputs", logits.shape, logits.dtype)
        if not fused and loss.head != "linear":
            if loss.head in SAVES_SLOPE:
                slopes = ctx.scratch(_LOSS, "slopes", logits.shape, logits.dtype)
            self._do.activate(CODES[loss.head], logits, outputs, slopes)
        if targets.dtype.kind in "iu":
            targets = targets.astype(np.int64, order="C", copy=False)
        gradient = ctx.scratch(_LOSS, "gradient", logits.shape, logits.dtype)
        terms = ctx.scratch(_LOSS, "terms", logits.shape[:1], np.float64)
        inputs, written = (logits, outputs) if fused else (outputs, None)
        if loss.loss.target_kind == "sequences":
            self._do.ctc(inputs, targets, weights, written, gradient, terms)
        else:
            code = LOSS_CODES[loss.loss.name]
            self._do.loss(code, fused, inputs, targets, weights, written, gradient, terms, *_settings(loss.loss))

        def backward() -> Array:
            if fused or loss.head == "linear":
                return gradient
            return self._pull(loss.head, outputs if slopes is None else slopes, gradient)

        return terms, outputs, backward

    def total(self, ctx: Workspace, terms: Array) -> float:
        """Add one after the other."""
        out = np.zeros(1)
        core.shard_totals(one_shard(len(terms)).times(1), terms, (out,))
        return float(out[0])


def _settings(loss: Any) -> tuple[float, float, float, float, int | None]:
    """Return the settings of any loss as the core takes them, with something for those that it has not."""
    return (
        getattr(loss, "label_smoothing", 0.0),
        getattr(loss, "delta", 1.0),
        getattr(loss, "gamma", 0.0),
        loss.alpha if getattr(loss, "apply_class_balancing", hasattr(loss, "alpha")) else -1.0,
        getattr(loss, "ignore_class", None),
    )

"""Focal cross-entropies (Lin et al., 2017): a factor (1 - p)^gamma lowers the loss of what is right already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hpcnn.errors import ModelError
from hpcnn.nn.layer import Shape
from hpcnn.nn.loss import EPSILON, Terms, mean_rows, sample_rows, scratch_like, zero_where_clipped
from hpcnn.nn.losses.crossentropies import Crossentropy, check_classes, divide_by_positions, row_scratch
from hpcnn.nn.workspace import Array, Workspace


@dataclass(frozen=True)
class _Focal(Crossentropy):
    """Base of both: `gamma` is the power, `alpha` a factor. Probabilities are kept 1e-7 off 0 and 1."""

    gamma: float = 2.0
    alpha: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.gamma < np.inf:
            raise ModelError(f"the loss {self.name!r} needs a gamma of at least 0, but it is {self.gamma}")
        if not 0 < self.alpha <= 1:
            raise ModelError(f"the loss {self.name!r} needs an alpha above 0, at most 1, but it is {self.alpha}")


@dataclass(frozen=True)
class BinaryFocalCrossentropy(_Focal):
    """Mean over a sample's outputs of (1 - q)^gamma x the binary cross-entropy, where q = t p + (1 - t)(1 - p).

    With `apply_class_balancing`, times alpha t + (1 - alpha)(1 - t).
    """

    name: ClassVar[str] = "binary_focal_crossentropy"
    apply_class_balancing: bool = False

    def from_outputs(self, outputs: Array, targets: Array, ctx: Workspace) -> Terms:
        """See `Loss`."""
        t = self.smoothed(targets, 2, ctx)
        p = np.clip(outputs, EPSILON, 1 - EPSILON, out=scratch_like(outputs, ctx, "p"))
        loss, slope, factor, x, work = (
            scratch_like(outputs, ctx, use) for use in ("loss", "slope", "factor", "x", "work")
        )
        # x = 1 - q = t + p (1 - 2 t)
        np.subtract(1, np.multiply(t, 2, out=work), out=work)
        np.add(np.multiply(p, work, out=x), t, out=x)
        np.power(x, self.gamma, out=factor)
        if self.apply_class_balancing:
            np.multiply(t, 2 * self.alpha - 1, out=loss)
            np.multiply(factor, np.add(loss, 1 - self.alpha, out=loss), out=factor)
        # The derivative of the factor by p, over the factor: gamma (1 - 2 t) / x.
        np.divide(np.multiply(work, self.gamma, out=work), x, out=x)
        _binary_crossentropy(p, t, loss, slope, work)
        np.add(slope, np.multiply(x, loss, out=x), out=slope)
        np.multiply(slope, factor, out=slope)
        terms = mean_rows(np.multiply(loss, factor, out=loss), ctx)

        def backward() -> Array:
            zero_where_clipped(slope, outputs, p, ctx)
            return np.divide(slope, sample_rows(slope).shape[1], out=slope)

        return terms, backward


@dataclass(frozen=True)
class CategoricalFocalCrossentropy(_Focal):
    """-sum of alpha (1 - p)^gamma t log(p) over the last axis; the mean over a sample's other axes.

    Outputs are divided by their sum. Targets are one-hot rows.
    """

    name: ClassVar[str] = "categorical_focal_crossentropy"

    def check_output(self, output_shape: Shape, head: str) -> None:
        """See `Loss`: there must be at least two classes."""
        super().check_output(output_shape, head)
        check_classes(self.name, output_shape)

    def from_outputs(self, outputs: Array, targets: Array, ctx: Workspace) -> Terms:
        """See `Loss`."""
        t = self.smoothed(targets, outputs.shape[-1], ctx)
        p, kept, logs, factor, gradient = (
            scratch_like(outputs, ctx, use) for use in ("p", "kept", "logs", "factor", "gradient")
        )
        total = np.add.reduce(outputs, axis=-1, keepdims=True, out=row_scratch(outputs, ctx, "total"))
        np.divide(outputs, total, out=p)
        np.clip(p, EPSILON, 1 - EPSILON, out=kept)
        np.log(kept, out=logs)
        rest = np.subtract(1, kept, out=gradient)
        np.multiply(np.multiply(np.power(rest, self.gamma, out=factor), t, out=factor), self.alpha, out=factor)
        # gradient = factor (gamma log(p) / (1 - p) - 1 / p)
        np.divide(logs, rest, out=gradient)
        np.multiply(gradient, self.gamma, out=gradient)
        np.multiply(logs, factor, out=logs)
        rows = np.add.reduce(logs, axis=-1, keepdims=True, out=row_scratch(outputs, ctx, "rows"))
        terms = mean_rows(np.negative(rows, out=rows), ctx)

        def backward() -> Array:
            np.subtract(gradient, np.divide(1, kept, out=logs), out=gradient)
            np.multiply(gradient, factor, out=gradient)
            zero_where_clipped(gradient, p, kept, ctx)
            np.multiply(gradient, p, out=logs)
            np.subtract(gradient, np.add.reduce(logs, axis=-1, keepdims=True, out=rows), out=gradient)
            np.divide(gradient, total, out=gradient)
            return divide_by_positions(gradient)

        return terms, backward


def _binary_crossentropy(p: Array, t: Array, loss: Array, slope: Array, work: Array) -> None:
    """Write -t log(p) - (1 - t) log(1 - p) and its derivative by p; `work` is spare."""
    np.subtract(t, 1, out=work)
    np.log(np.subtract(1, p, out=slope), out=loss)
    np.multiply(loss, work, out=loss)
    np.multiply(np.log(p, out=work), t, out=work)
    np.subtract(loss, work, out=loss)
    np.multiply(slope, p, out=slope)
    np.divide(np.subtract(p, t, out=work), slope, out=slope)

"""Losses that compare whole rows: overlaps of a sample's areas, angles, and distances of distributions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hpcnn.nn.loss import (
    EPSILON,
    OWNER,
    Loss,
    Terms,
    mean_rows,
    sample_rows,
    sample_values,
    scratch_like,
    zero_where_clipped,
)
from hpcnn.nn.losses.crossentropies import divide_by_positions, row_scratch
from hpcnn.nn.workspace import Array, Workspace


@dataclass(frozen=True)
class KLDivergence(Loss):
    """Sum of t log(t / p) over the last axis, the mean over a sample's other axes; both are kept in [1e-7, 1]."""

    name: ClassVar[str] = "kl_divergence"

    def from_outputs(self, outputs: Array, targets: Array, ctx: Workspace) -> Terms:
        """See `Loss`."""
        p, t, work = (scratch_like(outputs, ctx, use) for use in ("p", "t", "work"))
        np.clip(outputs, EPSILON, 1, out=p)
        np.clip(targets, EPSILON, 1, out=t)
        np.multiply(np.log(np.divide(t, p, out=work), out=work), t, out=work)
        rows = np.add.reduce(work, axis=-1, keepdims=True, out=row_scratch(outputs, ctx, "rows"))

        def backward() -> Array:
            np.negative(np.divide(t, p, out=work), out=work)
            zero_where_clipped(work, outputs, p, ctx)
            return divide_by_positions(work)

        return mean_rows(rows, ctx), backward


@dataclass(frozen=True)
class CosineSimilarity(Loss):
    """Minus the cosine between output and target over the last axis, the mean over a sample's other axes.

    Lengths below 1e-7 count as 1e-7.
    """

    name: ClassVar[str] = "cosine_similarity"

    def from_outputs(self, outputs: Array, targets: Array, ctx: Workspace) -> Terms:
        """See `Loss`."""
        y, t = scratch_like(outputs, ctx, "y"), scratch_like(outputs, ctx, "t")
        length = _length(outputs, ctx, "length")
        np.divide(targets, np.maximum(_length(targets, ctx, "rows"), EPSILON), out=t)
        kept = np.maximum(length, EPSILON, out=row_scratch(outputs, ctx, "kept"))
        np.divide(outputs, kept, out=y)
        cosine = np.vecdot(y, t, out=row_scratch(outputs, ctx, "cosine")[..., 0])[..., np.newaxis]
        rows = np.negative(cosine, out=row_scratch(outputs, ctx, "rows"))
        terms = mean_rows(rows, ctx)

        def backward() -> Array:
            np.multiply(y, np.where(length < EPSILON, 0, cosine), out=y)
            np.divide(np.subtract(y, t, out=y), kept, out=y)
            return divide_by_positions(y)

        return terms, backward


@dataclass(frozen=True)
class Dice(Loss):
    """1 - 2 sum(t p) / (sum(t) + sum(p) + 1e-7) over all of a sample's outputs."""

    name: ClassVar[str] = "dice"

    def from_outputs(self, outputs: Array, targets: Array, ctx: Workspace) -> Terms:
        """See `Loss`."""
        both, either = _areas(outputs, targets, ctx)
        share = np.divide(np.multiply(both, 2, out=both), np.add(either, EPSILON, out=either), out=both)

        def backward() -> Array:
            gradient = scratch_like(outputs, ctx, "gradient")
            np.multiply(targets, -2, out=gradient)
            rows = sample_rows(gradient)
            np.divide(np.add(rows, share[:, np.newaxis], out=rows), either[:, np.newaxis], out=rows)
            return gradient

        return np.subtract(1, share, out=sample_values(outputs, ctx)), backward


@dataclass(frozen=True)
class IoU(Loss):
    """1 - sum(t p) / (sum(t) + sum(p) - sum(t p) + 1e-7) over all of a sample's outputs: soft Jaccard index."""

    name: ClassVar[str] = "iou"

    def from_outputs(self, outputs: Array, targets: Array, ctx: Workspace) -> Terms:
        """See `Loss`."""
        both, either = _areas(outputs, targets, ctx)
        np.add(np.subtract(either, both, out=either), EPSILON, out=either)
        share = np.divide(both, either, out=both)

        def backward() -> Array:
            gradient = scratch_like(outputs, ctx, "gradient")
            np.subtract(1, targets, out=gradient)
            rows, t = sample_rows(gradient), sample_rows(targets)
            np.multiply(rows, share[:, np.newaxis], out=rows)
            np.divide(np.subtract(rows, t, out=rows), either[:, np.newaxis], out=rows)
            return gradient

        return np.subtract(1, share, out=sample_values(outputs, ctx)), backward


def _areas(outputs: Array, targets: Array, ctx: Workspace) -> tuple[Array, Array]:
    """Return each sample's sum of t p, and its sum of t + p, in scratch (n,)."""
    p, t = sample_rows(outputs), sample_rows(targets)
    both, either, other = (
        ctx.scratch(OWNER, use, outputs.shape[:1], outputs.dtype) for use in ("both", "either", "other")
    )
    np.vecdot(p, t, out=both)
    np.add(np.add.reduce(p, axis=1, out=either), np.add.reduce(t, axis=1, out=other), out=either)
    return both, either


def _length(rows: Array, ctx: Workspace, use: str) -> Array:
    """Return the length of each row of the last axis, with that axis kept."""
    squares = np.vecdot(rows, rows, out=row_scratch(rows, ctx, use)[..., 0])
    return np.sqrt(squares, out=squares)[..., np.newaxis]

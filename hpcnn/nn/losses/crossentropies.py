"""The cross-entropies. They use logits wherever that is stable."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hpcnn.errors import DataError, ModelError
from hpcnn.nn.activations import sigmoid
from hpcnn.nn.layer import Shape
from hpcnn.nn.loss import (
    EPSILON,
    OWNER,
    Loss,
    LossBackward,
    TargetKind,
    Terms,
    mean_rows,
    sample_rows,
    sample_values,
    scratch_like,
    zero_where_clipped,
)
from hpcnn.nn.workspace import Array, Workspace


@dataclass(frozen=True)
class Crossentropy(Loss):
    """Base of the losses of classes. `label_smoothing` is the share of each label spread over all classes."""

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ModelError(
                f"the loss {self.name!r} needs a label_smoothing of at least 0 and below 1, but it is "
                f"{self.label_smoothing}"
            )

    def smoothed(self, targets: Array, classes: int, ctx: Workspace) -> Array:
        """Return rows of targets with the share spread over that many classes; they themselves if there is none."""
        if not self.label_smoothing:
            return targets
        smooth = np.multiply(targets, 1 - self.label_smoothing, out=scratch_like(targets, ctx, "smooth"))
        return np.add(smooth, self.label_smoothing / classes, out=smooth)


@dataclass(frozen=True)
class BinaryCrossentropy(Crossentropy):
    """Mean over a sample's outputs of -t log(p) - (1 - t) log(1 - p)."""

    name: ClassVar[str] = "binary_crossentropy"
    fused_head: ClassVar[str | None] = "sigmoid"

    def from_outputs(self, outputs: Array, targets: Array, ctx: Workspace) -> Terms:
        """See `Loss`."""
        t = self.smoothed(targets, 2, ctx)
        p = np.clip(outputs, EPSILON, 1 - EPSILON, out=scratch_like(outputs, ctx, "p"))
        work, rest = scratch_like(outputs, ctx, "work"), scratch_like(outputs, ctx, "rest")
        np.subtract(t, 1, out=work)
        np.log(np.subtract(1, p, out=rest), out=rest)
        np.multiply(rest, work, out=rest)
        np.multiply(np.log(p, out=work), t, out=work)
        terms = mean_rows(np.subtract(rest, work, out=rest), ctx)

        def backward() -> Array:
            np.multiply(p, np.subtract(1, p, out=work), out=work)
            gradient = np.divide(np.subtract(p, t, out=rest), work, out=rest)
            zero_where_clipped(gradient, outputs, p, ctx)
            return np.divide(gradient, sample_rows(gradient).shape[1], out=gradient)

        return terms, backward

    def from_logits(self, logits: Array, targets: Array, ctx: Workspace) -> tuple[Array, Array, LossBackward]:
        """See `Loss`: the terms are max(z, 0) - z t + log(1 + exp(-|z|))."""
        t = self.smoothed(targets, 2, ctx)
        work, value = scratch_like(logits, ctx, "work"), scratch_like(logits, ctx, "value")
        np.maximum(logits, 0, out=value)
        np.subtract(value, np.multiply(logits, t, out=work), out=value)
        np.negative(np.abs(logits, out=work), out=work)
        np.log1p(np.exp(work, out=work), out=work)
        terms = mean_rows(np.add(value, work, out=value), ctx)
        outputs = scratch_like(logits, ctx, "outputs")
        np.copyto(outputs, logits)
        sigmoid(outputs, ctx, OWNER)

        def backward() -> Array:
            np.subtract(outputs, t, out=outputs)
            return np.divide(outputs, sample_rows(outputs).shape[1], out=outputs)

        return outputs, terms, backward


@dataclass(frozen=True)
class _Categorical(Crossentropy):
    """Base of the cross-entropies over the last axis: the mean over a sample's other axes of -sum of t log(p)."""

    fused_head: ClassVar[str | None] = "softmax"

    @abstractmethod
    def _dot(self, values: Array, targets: Array) -> Array:
        """Return the sum of t x values over the last axis, with that axis kept."""

    @abstractmethod
    def _subtract(self, values: Array, targets: Array, share: float, ctx: Workspace) -> None:
        """Subtract share x t from `values`, in place."""

    @abstractmethod
    def _total(self, targets: Array) -> Array | float:
        """Return the sum of t over the last axis, with that axis kept."""

    def _mean(self, rows: Array, targets: Array, ctx: Workspace) -> Array:
        """Return each sample's mean of the losses of its positions (n, ..., 1)."""
        return mean_rows(rows, ctx)

    def _share(self, gradient: Array, targets: Array) -> Array:
        """Turn the gradients of the positions' losses into those of their mean, in place."""
        return divide_by_positions(gradient)

    def check_output(self, output_shape: Shape, head: str) -> None:
        """See `Loss`: there must be at least two classes."""
        super().check_output(output_shape, head)
        check_classes(self.name, output_shape)

    def from_outputs(self, outputs: Array, targets: Array, ctx: Workspace) -> Terms:
        """See `Loss`: outputs are divided by their sum, then kept off 0 and 1."""
        p, clipped = scratch_like(outputs, ctx, "p"), scratch_like(outputs, ctx, "clipped")
        gradient, work = scratch_like(outputs, ctx, "gradient"), scratch_like(outputs, ctx, "work")
        total = np.add.reduce(outputs, axis=-1, keepdims=True, out=row_scratch(outputs, ctx, "total"))
        np.divide(outputs, total, out=p)
        np.clip(p, EPSILON, 1 - EPSILON, out=clipped)
        gradient.fill(-self.label_smoothing / outputs.shape[-1])
        self._subtract(gradient, targets, 1 - self.label_smoothing, ctx)  # minus the smoothed targets
        np.multiply(np.log(clipped, out=work), gradient, out=work)
        rows = np.add.reduce(work, axis=-1, keepdims=True, out=row_scratch(outputs, ctx, "rows"))
        terms = self._mean(rows, targets, ctx)

        def backward() -> Array:
            np.divide(gradient, clipped, out=gradient)
            zero_where_clipped(gradient, p, clipped, ctx)
            np.multiply(gradient, p, out=work)
            np.subtract(gradient, np.add.reduce(work, axis=-1, keepdims=True, out=rows), out=gradient)
            np.divide(gradient, total, out=gradient)
            return self._share(gradient, targets)

        return terms, backward

    def from_logits(self, logits: Array, targets: Array, ctx: Workspace) -> tuple[Array, Array, LossBackward]:
        """See `Loss`: the terms are log(sum of exp(z)) - sum of t z, with z less its maximum."""
        smoothing, classes = self.label_smoothing, logits.shape[-1]
        outputs, rows = scratch_like(logits, ctx, "outputs"), row_scratch(logits, ctx, "rows")
        np.subtract(logits, np.maximum.reduce(logits, axis=-1, keepdims=True, out=rows), out=outputs)
        picked = self._dot(outputs, targets)
        total = self._total(targets)
        if smoothing:
            spread = np.add.reduce(outputs, axis=-1, keepdims=True) * (smoothing / classes)
            picked = picked * (1 - smoothing) + spread
            total = total * (1 - smoothing) + smoothing
        np.add.reduce(np.exp(outputs, out=outputs), axis=-1, keepdims=True, out=rows)
        np.divide(outputs, rows, out=outputs)
        np.log(rows, out=rows)
        if not isinstance(total, float):
            np.multiply(rows, total, out=rows)
        terms = self._mean(np.subtract(rows, picked, out=rows), targets, ctx)

        def backward() -> Array:
            if not isinstance(total, float):
                np.multiply(outputs, total, out=outputs)
            if smoothing:
                np.subtract(outputs, smoothing / classes, out=outputs)
            self._subtract(outputs, targets, 1 - smoothing, ctx)
            return self._share(outputs, targets)

        return outputs, terms, backward


@dataclass(frozen=True)
class CategoricalCrossentropy(_Categorical):
    """-sum of t log(p) over the last axis, for one-hot targets; the mean over a sample's other axes."""

    name: ClassVar[str] = "categorical_crossentropy"

    def _dot(self, values: Array, targets: Array) -> Array:
        dots: Array = np.vecdot(targets, values)[..., None]
        return dots

    def _subtract(self, values: Array, targets: Array, share: float, ctx: Workspace) -> None:
        np.subtract(values, np.multiply(targets, share, out=scratch_like(targets, ctx, "share")), out=values)

    def _total(self, targets: Array) -> Array | float:
        return np.asarray(np.add.reduce(targets, axis=-1, keepdims=True))


@dataclass(frozen=True)
class SparseCategoricalCrossentropy(_Categorical):
    """-log(p of the label), for integer labels; the mean over a sample's positions: its other axes.

    Positions with the label `ignore_class` do not count: the mean is over the others, and 0 if there are none. (Keras
    takes one mean over all counted positions of a batch, so that a sample with more of them weighs more.)
    """

    name: ClassVar[str] = "sparse_categorical_crossentropy"
    target_kind: ClassVar[TargetKind] = "labels"
    ignore_class: int | None = None

    def check_targets(self, logits: Array, targets: Array) -> None:
        """See `Loss`: labels must be numbers of classes, or the one that is ignored."""
        # Seen as unsigned, a negative label is a large one.
        unsigned = targets.view(targets.dtype.str.replace("i", "u"))
        counted: Any = True if self.ignore_class is None else targets != self.ignore_class
        if np.maximum.reduce(unsigned, axis=None, where=counted, initial=0) >= logits.shape[-1]:
            wrong = next(
                int(label) for label in targets.flat if not 0 <= label < logits.shape[-1] and label != self.ignore_class
            )
            ignored = "" if self.ignore_class is None else f" (or {self.ignore_class}, which is ignored)"
            raise DataError(
                f"the labels of {logits.shape[-1]} classes are 0 to {logits.shape[-1] - 1}{ignored}, but one is "
                f"{wrong}. Give the last layer one unit for each class, or number the classes from 0."
            )

    def _dot(self, values: Array, targets: Array) -> Array:
        rows, labels = self._places(values, targets)
        picked: Array = rows[np.arange(len(rows)), labels]
        return picked.reshape(*targets.shape, 1)

    def _subtract(self, values: Array, targets: Array, share: float, ctx: Workspace) -> None:
        rows, labels = self._places(values, targets)
        rows[np.arange(len(rows)), labels] -= share

    def _total(self, targets: Array) -> Array | float:
        return 1.0

    def _mean(self, rows: Array, targets: Array, ctx: Workspace) -> Array:
        if self.ignore_class is None:
            return super()._mean(rows, targets, ctx)
        ignored, counts = self._ignored(targets)
        np.copyto(rows[..., 0], 0, where=ignored)
        terms = np.add.reduce(sample_rows(rows), axis=1, out=sample_values(rows, ctx))
        return np.divide(terms, counts, out=terms)

    def _share(self, gradient: Array, targets: Array) -> Array:
        if self.ignore_class is None:
            return super()._share(gradient, targets)
        ignored, counts = self._ignored(targets)
        np.copyto(gradient, 0, where=ignored[..., np.newaxis])
        rows = sample_rows(gradient)
        np.divide(rows, counts[:, np.newaxis], out=rows)
        return gradient

    def _ignored(self, targets: Array) -> tuple[Array, Array]:
        """Return which positions do not count, and how many of each sample do, at least 1."""
        ignored = targets == self.ignore_class
        counts = np.count_nonzero(~sample_rows(ignored), axis=1)
        return ignored, np.maximum(counts, 1)

    def _places(self, values: Array, targets: Array) -> tuple[Array, Array]:
        """Return positions as rows, and their labels, 0 for those that do not count."""
        labels = targets.reshape(-1)
        if self.ignore_class is not None:
            labels = np.where(labels == self.ignore_class, 0, labels)
        return values.reshape(-1, values.shape[-1]), labels


def check_classes(name: str, output_shape: Shape) -> None:
    """Raise ModelError unless there are at least two classes."""
    if output_shape[-1] < 2:
        raise ModelError(
            f"the loss {name!r} needs one output for each class, two at least, but the network's output "
            f"shape is {output_shape}. For two classes and one output use 'binary_crossentropy' with activation "
            "'sigmoid'."
        )


def row_scratch(outputs: Array, ctx: Workspace, use: str) -> Array:
    """Return scratch for one number a position: shape (n, ..., 1)."""
    return ctx.scratch(OWNER, use, (*outputs.shape[:-1], 1), outputs.dtype)


def divide_by_positions(gradient: Array) -> Array:
    """Divide by the number of positions of a sample, in place: of all axes but the first and last."""
    positions = sample_rows(gradient).shape[1] // gradient.shape[-1]
    return gradient if positions == 1 else np.divide(gradient, positions, out=gradient)

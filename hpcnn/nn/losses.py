"""The losses. Definitions and defaults are those of Keras 3; cross-entropies use logits wherever that is stable."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from hpcnn.errors import DataError, ModelError
from hpcnn.nn.activations import sigmoid
from hpcnn.nn.layer import Shape
from hpcnn.nn.loss import OWNER, Loss, LossBackward, Terms, mean_rows, sample_rows, sample_values, scratch_like
from hpcnn.nn.workspace import Array, Workspace

EPSILON = 1e-7
"""Probabilities are kept this far from 0 and 1 where their logarithm is taken (Keras's ``backend.epsilon()``)."""


@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """Mean of (output - target)^2 over a sample's outputs."""

    name: ClassVar[str] = "mse"

    def from_outputs(self, outputs: Array, targets: Array, ctx: Workspace) -> Terms:
        """See `Loss`."""
        error = np.subtract(outputs, targets, out=scratch_like(outputs, ctx, "error"))
        rows = sample_rows(error)
        terms = np.vecdot(rows, rows, out=sample_values(outputs, ctx))
        np.divide(terms, rows.shape[1], out=terms)
        return terms, lambda: np.multiply(error, 2 / rows.shape[1], out=error)


@dataclass(frozen=True)
class MeanAbsoluteError(Loss):
    """Mean of |output - target| over a sample's outputs; the gradient at 0 is 0."""

    name: ClassVar[str] = "mae"

    def from_outputs(self, outputs: Array, targets: Array, ctx: Workspace) -> Terms:
        """See `Loss`."""
        error = np.subtract(outputs, targets, out=scratch_like(outputs, ctx, "error"))
        terms = mean_rows(np.abs(error, out=scratch_like(outputs, ctx, "work")), ctx)

        def backward() -> Array:
            np.sign(error, out=error)
            return np.divide(error, sample_rows(error).shape[1], out=error)

        return terms, backward


@dataclass(frozen=True)
class Huber(Loss):
    """Mean over a sample's outputs of e^2 / 2 for |e| <= delta, of delta (|e| - delta / 2) beyond (Huber, 1964)."""

    name: ClassVar[str] = "huber"
    delta: float = 1.0

    def __post_init__(self) -> None:
        if not self.delta > 0:
            raise ModelError(f"the loss 'huber' needs a delta above 0, but it is {self.delta}")

    def from_outputs(self, outputs: Array, targets: Array, ctx: Workspace) -> Terms:
        """See `Loss`."""
        error = np.subtract(outputs, targets, out=scratch_like(outputs, ctx, "error"))
        clipped = np.clip(error, -self.delta, self.delta, out=scratch_like(outputs, ctx, "clipped"))
        # Both branches are clipped x (error - clipped / 2).
        work = np.multiply(clipped, 0.5, out=scratch_like(outputs, ctx, "work"))
        np.subtract(error, work, out=work)
        np.multiply(work, clipped, out=work)
        terms = mean_rows(work, ctx)
        return terms, lambda: np.divide(clipped, sample_rows(clipped).shape[1], out=clipped)


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


@dataclass(frozen=True)
class BinaryCrossentropy(Crossentropy):
    """Mean over a sample's outputs of -t log(p) - (1 - t) log(1 - p)."""

    name: ClassVar[str] = "binary_crossentropy"
    fused_head: ClassVar[str | None] = "sigmoid"

    def from_outputs(self, outputs: Array, targets: Array, ctx: Workspace) -> Terms:
        """See `Loss`."""
        t = self._smooth(targets, ctx)
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
            _zero_where_clipped(gradient, outputs, p, ctx)
            return np.divide(gradient, sample_rows(gradient).shape[1], out=gradient)

        return terms, backward

    def from_logits(self, logits: Array, targets: Array, ctx: Workspace) -> tuple[Array, Array, LossBackward]:
        """See `Loss`: the terms are max(z, 0) - z t + log(1 + exp(-|z|))."""
        t = self._smooth(targets, ctx)
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

    def _smooth(self, targets: Array, ctx: Workspace) -> Array:
        if not self.label_smoothing:
            return targets
        smooth = np.multiply(targets, 1 - self.label_smoothing, out=scratch_like(targets, ctx, "smooth"))
        return np.add(smooth, self.label_smoothing / 2, out=smooth)


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

    def check_output(self, output_shape: Shape, head: str) -> None:
        """See `Loss`: there must be at least two classes."""
        super().check_output(output_shape, head)
        if output_shape[-1] < 2:
            raise ModelError(
                f"the loss {self.name!r} needs one output for each class, two at least, but the network's output "
                f"shape is {output_shape}. For two classes and one output use 'binary_crossentropy' with activation "
                "'sigmoid'."
            )

    def from_outputs(self, outputs: Array, targets: Array, ctx: Workspace) -> Terms:
        """See `Loss`: outputs are divided by their sum, then kept off 0 and 1."""
        p, clipped = scratch_like(outputs, ctx, "p"), scratch_like(outputs, ctx, "clipped")
        gradient, work = scratch_like(outputs, ctx, "gradient"), scratch_like(outputs, ctx, "work")
        total = np.add.reduce(outputs, axis=-1, keepdims=True, out=_row_scratch(outputs, ctx, "total"))
        np.divide(outputs, total, out=p)
        np.clip(p, EPSILON, 1 - EPSILON, out=clipped)
        gradient.fill(-self.label_smoothing / outputs.shape[-1])
        self._subtract(gradient, targets, 1 - self.label_smoothing, ctx)  # minus the smoothed targets
        np.multiply(np.log(clipped, out=work), gradient, out=work)
        rows = np.add.reduce(work, axis=-1, keepdims=True, out=_row_scratch(outputs, ctx, "rows"))
        terms = mean_rows(rows, ctx)

        def backward() -> Array:
            np.divide(gradient, clipped, out=gradient)
            _zero_where_clipped(gradient, p, clipped, ctx)
            np.multiply(gradient, p, out=work)
            np.subtract(gradient, np.add.reduce(work, axis=-1, keepdims=True, out=rows), out=gradient)
            np.divide(gradient, total, out=gradient)
            return _divide_by_positions(gradient)

        return terms, backward

    def from_logits(self, logits: Array, targets: Array, ctx: Workspace) -> tuple[Array, Array, LossBackward]:
        """See `Loss`: the terms are log(sum of exp(z)) - sum of t z, with z less its maximum."""
        smoothing, classes = self.label_smoothing, logits.shape[-1]
        outputs, rows = scratch_like(logits, ctx, "outputs"), _row_scratch(logits, ctx, "rows")
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
        terms = mean_rows(np.subtract(rows, picked, out=rows), ctx)

        def backward() -> Array:
            if not isinstance(total, float):
                np.multiply(outputs, total, out=outputs)
            if smoothing:
                np.subtract(outputs, smoothing / classes, out=outputs)
            self._subtract(outputs, targets, 1 - smoothing, ctx)
            return _divide_by_positions(outputs)

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
    """-log(p of the label), for integer labels; the mean over a sample's other axes."""

    name: ClassVar[str] = "sparse_categorical_crossentropy"
    target_kind: ClassVar[Literal["labels", "values"]] = "labels"

    def check_targets(self, logits: Array, targets: Array) -> None:
        """See `Loss`: labels must be numbers of classes."""
        # Seen as unsigned, a negative label is a large one.
        unsigned = targets.view(targets.dtype.str.replace("i", "u"))
        if targets.size and np.maximum.reduce(unsigned, axis=None) >= logits.shape[-1]:
            wrong = next(int(label) for label in targets.flat if not 0 <= label < logits.shape[-1])
            raise DataError(
                f"the labels of {logits.shape[-1]} classes are 0 to {logits.shape[-1] - 1}, but one is {wrong}. "
                "Give the last layer one unit for each class, or number the classes from 0."
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

    @staticmethod
    def _places(values: Array, targets: Array) -> tuple[Array, Array]:
        return values.reshape(-1, values.shape[-1]), targets.reshape(-1)


def _row_scratch(outputs: Array, ctx: Workspace, use: str) -> Array:
    return ctx.scratch(OWNER, use, (*outputs.shape[:-1], 1), outputs.dtype)


def _zero_where_clipped(gradient: Array, before: Array, after: Array, ctx: Workspace) -> None:
    changed = np.not_equal(before, after, out=ctx.scratch(OWNER, "changed", before.shape, np.bool_))
    np.copyto(gradient, 0, where=changed)


def _divide_by_positions(gradient: Array) -> Array:
    """Divide by the number of positions of a sample: of all axes but the first and last."""
    positions = sample_rows(gradient).shape[1] // gradient.shape[-1]
    return gradient if positions == 1 else np.divide(gradient, positions, out=gradient)


LOSSES: dict[str, type[Loss]] = {
    cls.name: cls
    for cls in (
        MeanSquaredError,
        MeanAbsoluteError,
        Huber,
        BinaryCrossentropy,
        CategoricalCrossentropy,
        SparseCategoricalCrossentropy,
    )
}

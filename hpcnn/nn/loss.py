"""What a loss is: a function of outputs, bound to a head so that it works on logits. Sums are in float64."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from hpcnn.errors import DataError, ModelError
from hpcnn.nn.activations import activation
from hpcnn.nn.context import Context
from hpcnn.nn.layer import Shape
from hpcnn.nn.passes import Steps, as_whole_batch
from hpcnn.nn.workspace import Array, Workspace

OWNER = ("loss",)
"""Owner of the scratch arrays; no layer can have this name."""

EPSILON = 1e-7
"""Probabilities are kept this far from 0 and 1 where their logarithm is taken (Keras's ``backend.epsilon()``)."""

LossBackward = Callable[[], Array]
"""``() -> gradient``; may overwrite what the forward pass returned."""
TargetKind = Literal["labels", "values", "sequences", "any"]
Terms = tuple[Array, LossBackward]
"""(loss of each sample (n,), gradient of their sum)."""


@dataclass(frozen=True)
class Loss(ABC):
    """Base of all losses: frozen, owning no array."""

    name: ClassVar[str]
    """Name in the job file."""
    target_kind: ClassVar[TargetKind] = "values"
    """``values``: float targets (n, *output_shape). ``labels``: integers (n, *output_shape[:-1]). ``sequences``:
    integers (n, length), of any length. ``any``: nothing reads them."""
    synchronized: ClassVar[bool] = False
    """Whether the loss of a sample depends on the others of the batch: then `batch_steps` computes it."""
    fused_head: ClassVar[str | None] = None
    """The head with which the loss is computed from the logits, exactly and stably."""

    def check_output(self, output_shape: Shape, head: str) -> None:
        """Check that the loss can go with a network of that output and head.

        Raises:
            ModelError: it can't.
        """
        if not output_shape:
            raise ModelError(f"the loss {self.name!r} needs outputs with at least one axis, but the network returns ()")
        if head == "softmax" and output_shape[-1] == 1:
            raise ModelError(
                f"a softmax of one unit is always 1, so that nothing can learn (output shape {output_shape}). "
                "Use activation 'sigmoid' with the loss 'binary_crossentropy', or one unit for each class."
            )

    def check_targets(self, logits: Array, targets: Array) -> None:  # noqa: B027 - most losses take any value
        """Check the values of targets that have the right shape and kind.

        Raises:
            DataError: the loss is not defined for them.
        """

    def bind(self, head: str) -> BoundLoss:
        """Return the loss as a function of the logits of a network with that head."""
        return BoundLoss(self, head)

    @abstractmethod
    def from_outputs(self, outputs: Array, targets: Array, ctx: Workspace) -> Terms:
        """Return the loss of each sample, and the pass back to the gradient of `outputs`, which stay as they are."""

    def from_logits(self, logits: Array, targets: Array, ctx: Workspace) -> tuple[Array, Array, LossBackward]:
        """Return the outputs, the loss of each sample, and the pass back to the gradient of `logits`.

        For the fused head only.
        """
        raise AssertionError(f"{self.name} has no fused head")

    def entries_between(self, samples: int, batch: int) -> int:
        """Return the entries of scratch that `samples` of a batch take in pairs with all of its samples."""
        return 0

    def batch_steps(self, outputs: Array, ctx: Context) -> Steps[tuple[Array, LossBackward]]:
        """Do what `from_outputs` does, stopping for rows of the whole batch. For losses that are synchronized."""
        raise AssertionError(f"{self.name} takes each sample by itself")


@dataclass(frozen=True)
class BoundLoss:
    """A loss behind a head: a function of logits.

    >>> from hpcnn.nn.losses import MeanSquaredError
    >>> loss = MeanSquaredError().bind("linear")
    >>> loss_sum, outputs, backward = loss(np.array([[3.0], [5.0]]), np.array([[1.0], [5.0]]), None, Context())
    >>> loss_sum, backward().tolist()
    (4.0, [[4.0], [0.0]])
    """

    loss: Loss
    head: str

    def __post_init__(self) -> None:
        activation(self.head)

    @property
    def target_kind(self) -> TargetKind:
        """``labels``, ``values``, ``sequences`` or ``any``."""
        return self.loss.target_kind

    @property
    def synchronized(self) -> bool:
        """Whether the loss of a sample depends on the others of the batch."""
        return self.loss.synchronized

    @property
    def ignore_class(self) -> int | None:
        """The label of positions that do not count; None if there is none."""
        return getattr(self.loss, "ignore_class", None)

    def __call__(
        self, logits: Array, targets: Array, weights: Array | None, ctx: Context
    ) -> tuple[float, Array, LossBackward]:
        """Return the loss summed over the samples, the outputs, and the pass back.

        Args:
            logits: (n, *output_shape).
            targets: of the same shape, or integers (n, *output_shape[:-1]) for labels, (n, length) for sequences, or
                anything where the loss reads none.
            weights: one for each sample (n,), or None.
            ctx: scratch.

        Returns:
            The sum over the samples of weight x loss; the outputs, shape of `logits`, valid until ``backward`` is
            called; ``backward() -> dlogits``, the gradient of the sum, to be called once at most.

        Raises:
            DataError: targets or weights don't fit the logits.
        """
        targets = self.fit_targets(logits, targets, ctx)
        if weights is not None and weights.shape != logits.shape[:1]:
            raise DataError(f"weights have shape {weights.shape}, but {len(logits)} samples need {logits.shape[:1]}")
        terms, outputs, backward = as_whole_batch(self.steps(logits, targets, weights, ctx))
        return ctx.arithmetic.total(ctx, terms), outputs, backward

    def steps(
        self, logits: Array, targets: Array, weights: Array | None, ctx: Context
    ) -> Steps[tuple[Array, Array, LossBackward]]:
        """Return the weighted loss of each sample, the outputs, and the pass back, for targets that fit.

        Stops where a loss needs rows of the whole batch.

        Raises:
            ModelError: weights for a loss that compares samples with each other.
        """
        if not self.synchronized:
            return ctx.arithmetic.loss(ctx, self, logits, targets, weights)
        if weights is not None:
            raise ModelError(
                f"the loss {self.loss.name!r} compares samples with each other, and takes no weights of samples or "
                "classes, but was given some. Leave them out."
            )
        outputs, pull = logits, None
        if self.head != "linear":
            outputs, pull = ctx.arithmetic.activation(ctx, (*OWNER, "head"), self.head, logits)
        terms, gradient = yield from self.loss.batch_steps(outputs, ctx)
        return terms, outputs, gradient if pull is None else lambda: pull(gradient())

    def terms(
        self, logits: Array, targets: Array, weights: Array | None, ctx: Workspace
    ) -> tuple[Array, Array, LossBackward]:
        """Return the weighted loss of each sample, the outputs, and the pass back, in NumPy."""
        outputs, terms, gradient = self._unweighted(logits, targets, ctx)
        if weights is None:
            return terms, outputs, gradient
        double = ctx.scratch(OWNER, "double", terms.shape, np.float64)
        np.copyto(double, terms)
        return np.multiply(double, weights, out=double), outputs, lambda: _scale(gradient(), weights, ctx)

    def _unweighted(self, logits: Array, targets: Array, ctx: Workspace) -> tuple[Array, Array, LossBackward]:
        if self.head == self.loss.fused_head:
            outputs, terms, backward = self.loss.from_logits(logits, targets, ctx)
            return outputs, terms, backward
        if self.head == "linear":
            terms, backward = self.loss.from_outputs(logits, targets, ctx)
            return logits, terms, backward
        z = scratch_like(logits, ctx, "z")
        np.copyto(z, logits)
        outputs, head_backward = activation(self.head)(z, ctx, OWNER)
        terms, gradient = self.loss.from_outputs(outputs, targets, ctx)
        return outputs, terms, lambda: head_backward(gradient())

    def fit_targets(self, logits: Array, targets: Array, ctx: Workspace) -> Array:
        """Return the targets as the loss takes them.

        Raises:
            DataError: they don't fit the logits.
        """
        if self.target_kind == "any":
            return targets
        labels = self.target_kind != "values"
        expected: tuple[int, ...] = logits.shape[:-1] if labels else logits.shape
        if self.target_kind == "sequences":
            expected = (len(logits), targets.shape[-1] if targets.ndim else 1)
        if targets.shape != expected:
            raise DataError(
                f"the loss {self.loss.name!r} needs targets of shape {expected} for outputs of shape {logits.shape}, "
                f"but they have {targets.shape}"
            )
        if labels:
            if targets.dtype.kind not in "iu":
                raise DataError(f"the loss {self.loss.name!r} needs integer labels, but they are {targets.dtype}")
            self.loss.check_targets(logits, targets)
            return targets
        if targets.dtype == logits.dtype:
            return targets
        converted = scratch_like(logits, ctx, "targets")
        np.copyto(converted, targets, casting="unsafe")
        return converted


def scratch_like(array: Array, ctx: Workspace, use: str) -> Array:
    """Return scratch of the array's shape and type."""
    return ctx.scratch(OWNER, use, array.shape, array.dtype)


def sample_values(outputs: Array, ctx: Workspace) -> Array:
    """Return scratch for the loss of each sample: shape (n,)."""
    return ctx.scratch(OWNER, "terms", outputs.shape[:1], outputs.dtype)


def sample_rows(outputs: Array) -> Array:
    """Return (n, *output_shape) as (n, outputs)."""
    return outputs.reshape(len(outputs), math.prod(outputs.shape[1:]))


def mean_rows(values: Array, ctx: Workspace) -> Array:
    """Return each sample's mean of `values` (n, ...): shape (n,), in scratch or a view of `values`."""
    rows = sample_rows(values)
    if rows.shape[1] == 1:
        return rows[:, 0]
    terms = np.add.reduce(rows, axis=1, out=sample_values(values, ctx))
    return np.divide(terms, rows.shape[1], out=terms)


def zero_where_clipped(gradient: Array, before: Array, after: Array, ctx: Workspace) -> None:
    """Zero the gradient in place where `after`, what a limit made of `before`, differs from that."""
    changed = np.not_equal(before, after, out=ctx.scratch(OWNER, "changed", before.shape, np.bool_))
    np.copyto(gradient, 0, where=changed)


def _scale(gradient: Array, weights: Array, ctx: Workspace) -> Array:
    factors = ctx.scratch(OWNER, "weights", weights.shape, gradient.dtype)
    np.copyto(factors, weights, casting="same_kind")
    return np.multiply(gradient, factors.reshape(-1, *[1] * (gradient.ndim - 1)), out=gradient)

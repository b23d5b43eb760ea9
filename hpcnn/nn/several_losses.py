"""The losses of a network with several outputs: a weighted sum, behind the same interface as one loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.errors import DataError
from hpcnn.nn.context import Context
from hpcnn.nn.layer import Shape
from hpcnn.nn.layers.parts import part_of
from hpcnn.nn.loss import BoundLoss, Computed, LossBackward, Suited, TargetKind
from hpcnn.nn.outputs import Output
from hpcnn.nn.passes import Steps, as_whole_batch
from hpcnn.nn.workspace import Array

OWNER = ("losses",)
"""Owner of scratch, together with the name of an output; no layer can have such a name."""


@dataclass(frozen=True)
class OutputLoss:
    """The loss of one of several outputs."""

    output: Output
    bound: BoundLoss
    """Bound to the head of the output."""
    weight: float
    """Its factor in the sum."""
    start: int
    """Where in a row of all targets those of this output begin."""

    @property
    def name(self) -> str:
        """That of the output."""
        return self.output.name

    @property
    def labels(self) -> bool:
        """Whether targets are integer labels."""
        return self.bound.target_kind == "labels"

    @property
    def target_shape(self) -> Shape:
        """Of the targets of one sample."""
        return self.output.shape[:-1] if self.labels else self.output.shape

    @property
    def stop(self) -> int:
        """Where in the row the targets end."""
        return self.start + math.prod(self.target_shape)

    def targets_in(self, rows: Array) -> Array:
        """Return the targets of this output, (n, *target_shape), as a view of rows of all targets."""
        return rows[:, self.start : self.stop].reshape(len(rows), *self.target_shape)


class BoundLosses:
    """The weighted sum of the losses of several outputs: a function of rows of all logits; see `BoundLoss`.

    Args:
        losses: in the order of the outputs: the loss bound to the output's head, and its weight.
    """

    ignore_class = None
    """Each output has its own."""
    synchronized = False
    """Losses that compare samples with each other are not among them."""

    def __init__(self, losses: Sequence[tuple[Output, BoundLoss, float]]) -> None:
        parts, start = [], 0
        for output, bound, weight in losses:
            parts.append(OutputLoss(output, bound, weight, start))
            start = parts[-1].stop
        self.parts = tuple(parts)
        self.width = start
        """The length of a row of targets."""

    @cached_property
    def target_kind(self) -> TargetKind:
        """``labels`` where rows of targets hold nothing but labels, else ``values``, which labels are among."""
        return "labels" if all(part.labels for part in self.parts) else "values"

    def __call__(
        self, logits: Array, targets: Array, weights: Array | None, ctx: Context
    ) -> tuple[Array, Array, LossBackward]:
        """Return the sums over the samples, the outputs, and the pass back.

        Args:
            logits: rows of all outputs, (n, outputs).
            targets: rows of all targets, (n, width).
            weights: one for each sample (n,), or None.
            ctx: scratch.

        Returns:
            The sum of all losses, and that of each output, times its weight; rows of all outputs; the pass back.

        Raises:
            DataError: targets don't fit.
        """
        targets = self.fit_targets(logits, targets, ctx)
        terms, outputs, backward = as_whole_batch(self.steps(logits, targets, weights, ctx))
        return self.sums(terms, ctx), outputs, backward

    def sums(self, terms: Sequence[Array], ctx: Context) -> Array:
        """Return the sums over the samples: of all losses, and of that of each output."""
        return np.array([ctx.arithmetic.total(ctx, each) for each in terms])

    def suited_targets(self, rows: Array, dtype: DTypeLike, suited: Suited) -> Any:
        """Return the targets of each output in the type in which its loss takes them."""
        return tuple(suited(part.targets_in(rows), np.int64 if part.labels else dtype) for part in self.parts)

    def fit_targets(self, logits: Array, targets: Any, ctx: Context) -> Any:
        """Return the targets of each output as its loss takes them.

        Raises:
            DataError: they don't fit the logits.
        """
        if not isinstance(targets, tuple):
            if targets.shape != (len(logits), self.width):
                raise DataError(
                    f"the losses of {', '.join(part.name for part in self.parts)} need targets of shape "
                    f"{(len(logits), self.width)}, but they have {targets.shape}"
                )
            targets = self._in_scratch(targets, logits.dtype, ctx)
        return tuple(
            part.bound.fit_targets(part.output.of(logits), own, _Apart(ctx, part.name))
            for part, own in zip(self.parts, targets, strict=True)
        )

    def _in_scratch(self, rows: Array, dtype: DTypeLike, ctx: Context) -> tuple[Array, ...]:
        def suited(view: Array, dtype: DTypeLike) -> Array:
            own = ctx.scratch((*OWNER, len(copies)), "targets", view.shape, dtype)
            np.copyto(own, view, casting="unsafe")
            copies.append(own)
            return own

        copies: list[Array] = []
        self.suited_targets(rows, dtype, suited)
        return tuple(copies)

    def steps(self, logits: Array, targets: Any, weights: Array | None, ctx: Context) -> Steps[Computed]:
        """Return the losses of the samples (all together, then by output, times the weights), outputs, pass back."""
        yield from ()  # no loss stops
        n, arithmetic = len(logits), ctx.arithmetic
        row = ctx.scratch(OWNER, "outputs", logits.shape, logits.dtype)
        all_terms, backwards = [], []
        for part, own in zip(self.parts, targets, strict=True):
            owner, output = (*OWNER, part.name), part.output
            given = part_of(ctx, owner, "logits", logits, output.start, (n, *output.shape))
            factors = ctx.scratch(owner, "weights", (n,), logits.dtype)
            if weights is None:
                factors.fill(part.weight)
            else:
                arithmetic.scaled(weights, part.weight, factors)
            terms, outputs, backward = arithmetic.loss(_Apart(ctx, part.name), part.bound, given, own, factors)
            arithmetic.put(outputs.reshape(n, output.size), 1, output.start, row)
            all_terms.append(terms)
            backwards.append(backward)
        total = all_terms[0]
        for terms in all_terms[1:]:
            total = arithmetic.add(total, terms, ctx.scratch(OWNER, "total", (n,), np.float64))

        def pull() -> Array:
            gradient = ctx.scratch(OWNER, "gradient", logits.shape, logits.dtype)
            for part, backward in zip(self.parts, backwards, strict=True):
                arithmetic.put(backward().reshape(n, part.output.size), 1, part.output.start, gradient)
            return gradient

        return (total, *all_terms), row, pull


class _Apart(Context):
    """A workspace with scratch of its own in that of another, for losses that all call their scratch the same."""

    def __init__(self, ctx: Context, name: str) -> None:
        super().__init__(matmul=ctx.matmul, arithmetic=ctx.arithmetic)
        self._within, self._name = ctx, name

    def scratch(self, owner: object, use: str, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """Return scratch of the other workspace."""
        return self._within.scratch((*OWNER, self._name, owner), use, shape, dtype)

    def ones(self, n: int, dtype: np.dtype[Any]) -> Array:
        """Return the ones of the other workspace."""
        return self._within.ones(n, dtype)

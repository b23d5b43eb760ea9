"""Connectionist temporal classification: labels of a sequence whose places in time are not known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hpcnn.errors import DataError, ModelError
from hpcnn.nn.layer import Shape
from hpcnn.nn.loss import OWNER, Loss, LossBackward, TargetKind, Terms, scratch_like
from hpcnn.nn.workspace import Array, Workspace

BLANK = 0
"""The class that stands for no label (Keras's ``mask_index``); as a target, it and all below it are padding."""


@dataclass(frozen=True)
class CTC(Loss):
    """-log of the probability of all alignments of a sample's labels with its steps (Graves et al., 2006).

    Outputs are (n, steps, classes), class 0 is the blank. Targets are integers (n, length): the labels, 1 to
    classes - 1, end at the first that is 0 or below. The loss works on logits, of a softmax or of no activation.
    """

    name: ClassVar[str] = "ctc"
    target_kind: ClassVar[TargetKind] = "sequences"
    fused_head: ClassVar[str | None] = "softmax"

    def check_output(self, output_shape: Shape, head: str) -> None:
        """See `Loss`: a row of logits a step."""
        if len(output_shape) != 2 or output_shape[1] < 2:
            raise ModelError(
                "the loss 'ctc' needs outputs of shape (steps, classes), with two classes at least, of which class 0 "
                f"is the blank, but the network's output shape is {output_shape}."
            )
        if head not in ("softmax", "linear"):
            raise ModelError(
                f"the loss 'ctc' works on logits, but the network ends in activation {head!r}. End it in 'softmax', "
                "or in 'linear': the loss is the same."
            )

    def check_targets(self, logits: Array, targets: Array) -> None:
        """See `Loss`: labels must be numbers of classes."""
        if targets.size and targets.max() >= logits.shape[-1]:
            raise DataError(
                f"the labels of {logits.shape[-1]} classes are 1 to {logits.shape[-1] - 1}, with 0 for the blank and "
                f"for padding, but one is {int(targets.max())}. Give the last layer one unit for each label, and one "
                "for the blank."
            )

    def from_outputs(self, outputs: Array, targets: Array, ctx: Workspace) -> Terms:
        """See `Loss`; `outputs` are logits."""
        _, terms, backward = self.from_logits(outputs, targets, ctx)
        return terms, backward

    def from_logits(self, logits: Array, targets: Array, ctx: Workspace) -> tuple[Array, Array, LossBackward]:
        """See `Loss`: forward and backward sums over all samples at once, in float64 and in logarithms."""
        p = ctx.scratch(OWNER, "probabilities", logits.shape, np.float64)
        log_p = ctx.scratch(OWNER, "logarithms", logits.shape, np.float64)
        np.subtract(logits, logits.max(axis=-1, keepdims=True), out=log_p, dtype=np.float64)
        np.exp(log_p, out=p)
        total = p.sum(axis=-1, keepdims=True)
        np.divide(p, total, out=p)
        np.subtract(log_p, np.log(total), out=log_p)
        states, skips, last = _states(targets)
        with np.errstate(divide="ignore", invalid="ignore"):  # log(0) is that of a path that there is not
            emitted = np.take_along_axis(
                log_p, np.broadcast_to(states[:, np.newaxis], (*p.shape[:2], states.shape[1])), axis=2
            )
            ahead, behind = _alphas(emitted, skips), _betas(emitted, skips, last)
            final = np.take_along_axis(ahead[:, -1], np.stack([last, np.maximum(last - 1, 0)], axis=1), axis=1)
            final[last == 0, 1] = -np.inf
            likelihood = np.logaddexp(final[:, 0], final[:, 1])

        def backward() -> Array:
            gradient = scratch_like(logits, ctx, "gradient")
            with np.errstate(invalid="ignore"):
                occupied = np.exp(ahead + behind - likelihood[:, np.newaxis, np.newaxis])
            occupied[np.isneginf(likelihood)] = 0  # no alignment: the sequence is too long for the steps
            for state in range(states.shape[1]):
                place = states[:, np.newaxis, state : state + 1]
                place = np.broadcast_to(place, (*p.shape[:2], 1))
                left = np.take_along_axis(p, place, axis=2) - occupied[:, :, state : state + 1]
                np.put_along_axis(p, place, left, axis=2)
            np.copyto(gradient, p, casting="same_kind")
            return gradient

        outputs = scratch_like(logits, ctx, "outputs")
        np.copyto(outputs, p, casting="same_kind")
        return outputs, -likelihood, backward


def _states(targets: Array) -> tuple[Array, Array, Array]:
    """Return the class of each state, blanks around each label; what a skip of a blank adds, 0 or -inf; the last state.

    Shapes (n, states), (n, states) and (n,).
    """
    n, length = targets.shape
    given = np.cumprod(targets > BLANK, axis=1).astype(bool)
    states = np.zeros((n, 2 * length + 1), np.int64)
    states[:, 1::2] = np.where(given, targets, BLANK)
    skips = np.full(states.shape, -np.inf)
    labels = states[:, 1::2]
    skips[:, 3::2][labels[:, 1:] != labels[:, :-1]] = 0
    return states, skips, 2 * given.sum(axis=1)


def _from_before(row: Array, skips: Array) -> Array:
    """Return log(sum of exp) of each state, the one before and, where that can be skipped, the one before it."""
    total = row.copy()
    total[:, 1:] = np.logaddexp(total[:, 1:], row[:, :-1])
    total[:, 2:] = np.logaddexp(total[:, 2:], row[:, :-2] + skips[:, 2:])
    return total


def _alphas(emitted: Array, skips: Array) -> Array:
    """Return the logarithm of all beginnings of alignments that are in a state at a step, with what it emits."""
    alphas = np.full(emitted.shape, -np.inf)
    alphas[:, 0, :2] = emitted[:, 0, :2]
    for step in range(1, emitted.shape[1]):
        alphas[:, step] = _from_before(alphas[:, step - 1], skips) + emitted[:, step]
    return alphas


def _betas(emitted: Array, skips: Array, last: Array) -> Array:
    """Return the logarithm of all ends of alignments that were in a state at a step, without what it emits."""
    betas = np.full(emitted.shape, -np.inf)
    rows = np.arange(len(last))
    betas[rows, -1, last] = 0
    betas[rows, -1, np.maximum(last - 1, 0)] = 0
    back = np.full_like(skips, -np.inf)
    back[:, 2:] = skips[:, :1:-1]  # of states in reverse order: a skip arrives where the other way it begins
    for step in range(emitted.shape[1] - 2, -1, -1):
        row = (betas[:, step + 1] + emitted[:, step + 1])[:, ::-1]
        betas[:, step] = _from_before(row, back)[:, ::-1]
    return betas

"""A loss that compares samples with each other: two embeddings of one sample are to be closer than those of others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hpcnn.errors import ModelError
from hpcnn.nn.context import Context
from hpcnn.nn.layer import BatchRows, Shape
from hpcnn.nn.loss import OWNER, Loss, LossBackward, TargetKind, Terms
from hpcnn.nn.passes import Steps
from hpcnn.nn.workspace import Array, Workspace

TINY = 1e-12
"""Added to the mean square of an embedding before its root is taken."""


@dataclass(frozen=True)
class Contrastive(Loss):
    """Cross-entropy of finding a sample's second embedding among those of the whole batch by its first (InfoNCE).

    The score of two embeddings is their cosine / temperature (van den Oord et al., 2018, arXiv:1807.03748). If it is
    symmetric, the mean of that and of finding the first by the second (Radford et al., 2021, arXiv:2103.00020).

    Outputs are (2, dim): a sample's embeddings. No targets are read. All samples of a batch count, on whichever rank
    they are; in an evaluation those of a piece.
    """

    name: ClassVar[str] = "contrastive"
    target_kind: ClassVar[TargetKind] = "any"
    synchronized: ClassVar[bool] = True

    temperature: float = 0.1
    symmetric: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ModelError(f"the loss {self.name!r} needs a temperature above 0, but got {self.temperature:g}")

    def check_output(self, output_shape: Shape, head: str) -> None:
        """Check that there are two embeddings."""
        if len(output_shape) != 2 or output_shape[0] != 2:
            raise ModelError(
                f"the loss {self.name!r} needs outputs of shape (2, dim), two embeddings of each sample, but the "
                f"network returns {output_shape}. Join the two with a concatenate layer, and add a reshape layer with "
                "shape = [2, -1]."
            )
        super().check_output(output_shape, head)

    def entries_between(self, samples: int, batch: int) -> int:
        """Return those of the scores, both ways."""
        return 2 * samples * batch

    def from_outputs(self, outputs: Array, targets: Array, ctx: Workspace) -> Terms:
        """Take the samples as the whole batch; see `batch_steps`."""
        raise AssertionError("batch_steps computes it")

    def batch_steps(self, outputs: Array, ctx: Context) -> Steps[tuple[Array, LossBackward]]:
        """Return the loss of each sample and the pass back; stops for all embeddings, and for sums of their scores."""
        do, dtype, (n, _, dim) = ctx.arithmetic, outputs.dtype, outputs.shape
        first, samples = ctx.among or (0, n)
        scale = ctx.scratch(OWNER, "scale", (1, dim), dtype)[0]
        scale.fill(1 / math.sqrt(dim * self.temperature))  # of both, so that their products are scores
        unit, unit_backward = do.rms_norm(ctx, (*OWNER, "unit"), outputs.reshape(2 * n, dim), scale, TINY)
        unit = unit.reshape(n, 2, dim)
        everyone = ctx.scratch(OWNER, "everyone", (samples, 2 * dim), dtype)
        yield BatchRows(unit.reshape(n, 2 * dim), everyone, first)
        weights = (0.5, 0.5) if self.symmetric else (1.0, 0.0)
        logs, terms = (ctx.scratch(OWNER, use, shape, np.float64) for use, shape in (("logs", (n, 2)), ("terms", (n,))))
        sides = []
        for side in (0, 1):
            own = ctx.scratch(OWNER, f"own {side}", (n, 1, dim), dtype)
            do.part(unit, 1, side, own)
            others = everyone[:, (1 - side) * dim : (2 - side) * dim]
            scores, pull = do.dense(ctx, (*OWNER, side), own.reshape(n, dim), others.T, None, "linear")
            do.contrast(scores, first, side, weights[side], logs, terms)
            sides.append((scores, pull))
        all_logs = ctx.scratch(OWNER, "all logs", (samples, 2), np.float64)
        yield BatchRows(logs, all_logs, first)

        def backward() -> Array:
            gradient = ctx.scratch(OWNER, "gradient", (n, 2, dim), dtype)
            for side, (scores, pull) in enumerate(sides):
                do.contrast_gradient(scores, all_logs, first, side, weights[side], weights[1 - side])
                of_own = pull(scores, None, None, need_dx=True)
                assert of_own is not None
                do.put(of_own.reshape(n, 1, dim), 1, side, gradient)
            dx = unit_backward(gradient.reshape(2 * n, dim), None, need_dx=True)
            assert dx is not None
            return dx.reshape(outputs.shape)

        return terms, backward

"""Passes of layers by the compiled core: each sum has one order, so the bits depend on the job alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.core.tree import Subtree, leaf_steps
from hpcnn.kernels import core
from hpcnn.nn.activations import ACTIVATIONS
from hpcnn.nn.arithmetic import DenseBackward, Grad, HeadedLoss, NormBackward, Pull
from hpcnn.nn.draws import DROPOUT_STREAM, stream_of
from hpcnn.nn.losses import LOSSES
from hpcnn.nn.workspace import Array, Workspace

CODES = {name: code for code, name in enumerate(ACTIVATIONS)}
"""Numbers of the activations in the core, which lists them in the same order."""
FROM_INPUT = {"gelu", "swish"}
"""The activations whose derivative is computed from the input; that of the others from the output."""
_LOSS = ("loss",)
"""Owner of a loss's scratch arrays; no layer can have this name."""
LOSS_CODES = {name: code for code, name in enumerate(LOSSES)}
"""Numbers of the losses in the core, in the same order too."""


class ShardRows:
    """Which rows of a batch belong to which gradient shard, for the subtrees that one rank contributes.

    Args:
        subtrees: left to right; next to each other.
        starts: the first row of each of their leaves, and the end of the last; the first is 0.
    """

    def __init__(self, subtrees: Sequence[Subtree], starts: Sequence[int]) -> None:
        self.subtrees, self.starts = tuple(subtrees), tuple(starts)
        self._groups = [0]
        self._folds: list[int] = []
        for subtree in subtrees:
            self._folds += [len(step.fold) for step in leaf_steps(subtree)]
            self._groups.append(len(self._folds))
        self._by_factor: dict[int, Any] = {}

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """The rows [first, end) of each subtree."""
        return [(self.starts[first], self.starts[end]) for first, end in pairwise(self._groups)]

    def times(self, factor: int) -> Any:
        """Return the core's description of the shards, where each sample has `factor` rows."""
        if factor not in self._by_factor:
            rows = [start * factor for start in self.starts]
            self._by_factor[factor] = core.Shards(self._groups, rows, self._folds)
        return self._by_factor[factor]

    def of(self, rows: int) -> Any:
        """Return the same for `rows` rows in all."""
        return self.times(rows // self.starts[-1] if rows else 1)


class NativeArithmetic:
    """See `Arithmetic`. A row does not depend on its neighbours: a pass takes all shards of a rank at once.

    Args:
        target: what takes the operations: the core does them at once, a `core.Program` keeps them.
        shards: whose gradients are summed; None: a pass is one shard.
        seed: that of the random draws.
        place: the number of the first sample in its batch, and the step: uint32 (2,), read when an operation is done.
    """

    def __init__(
        self, target: Any = core, shards: ShardRows | None = None, *, seed: int = 0, place: Array | None = None
    ) -> None:
        self._do, self._shards, self._seed = target, shards, seed
        self._place = np.zeros(2, np.uint32) if place is None else place
        self._draws = 0

    def dense(
        self, ctx: Workspace, owner: object, x: Array, kernel: Array, bias: Array | None, activation: str
    ) -> tuple[Array, DenseBackward]:
        """Multiply, add the bias and apply the activation in one operation."""
        shape, dtype = (len(x), kernel.shape[1]), kernel.dtype
        x = self._plain(x, dtype)
        y = ctx.scratch(owner, "y", shape, dtype)
        fused = activation != "softmax"
        before = ctx.scratch(owner, "z", shape, dtype) if activation in FROM_INPUT else None
        self._do.product(x, kernel, y, bias, CODES[activation] if fused else 0, before)
        if not fused:
            self._do.activate(CODES[activation], y, y)

        def backward(dy: Array, kernel_grad: Grad, bias_grad: Grad, /, *, need_dx: bool) -> Array | None:
            dz = self._pull(activation, y if before is None else before, self._own(dy, dtype))
            shards = self._shards_of(len(x))
            if kernel_grad is not None:
                self._do.weight_gradient(shards, x, dz, _sums(kernel_grad))
            if bias_grad is not None:
                self._do.column_sums(shards, dz, None, _sums(bias_grad))
            if not need_dx:
                return None
            dx = ctx.scratch(owner, "dx", x.shape, dtype)
            self._do.product(dz, kernel.T, dx, None, 0, None)
            return dx

        return y, backward

    def activation(self, ctx: Workspace, owner: object, name: str, x: Array) -> tuple[Array, Pull]:
        """Apply it."""
        x = self._plain(x, _real(x))
        y = ctx.scratch(owner, "y", x.shape, x.dtype)
        self._do.activate(CODES[name], x, y)
        return y, lambda dy: self._pull(name, x if name in FROM_INPUT else y, self._own(dy, x.dtype))

    def dropout(self, ctx: Workspace, owner: object, x: Array, rate: float) -> tuple[Array, Pull]:
        """Draw by the numbers of sample and entry; the pass back draws again, and keeps no mask."""
        self._draws += 1
        stream = stream_of(DROPOUT_STREAM, self._draws)
        x = self._plain(x, _real(x))
        y = ctx.scratch(owner, "y", x.shape, x.dtype)
        self._do.dropout(x, y, rate, self._seed, stream, self._place)

        def pull(dy: Array) -> Array:
            dy = self._own(dy, x.dtype)
            self._do.dropout(dy, dy, rate, self._seed, stream, self._place)
            return dy

        return y, pull

    def layer_norm(
        self, ctx: Workspace, owner: object, x: Array, gamma: Array | None, beta: Array | None, epsilon: float
    ) -> tuple[Array, NormBackward]:
        """Normalise each row."""
        scaled = gamma if beta is None else beta
        x = self._plain(x, _real(x) if scaled is None else scaled.dtype)
        normal = ctx.scratch(owner, "normal", x.shape, x.dtype)
        inverse = ctx.scratch(owner, "inverse", (len(x),), x.dtype)
        y = normal if gamma is None and beta is None else ctx.scratch(owner, "y", x.shape, x.dtype)
        self._do.layer_norm(x, gamma, beta, normal, inverse, y, epsilon)

        def backward(dy: Array, gamma_grad: Grad, beta_grad: Grad, /, *, need_dx: bool) -> Array | None:
            shards, dy = self._shards_of(len(x)), self._own(dy, x.dtype)
            if gamma_grad is not None:
                self._do.column_sums(shards, dy, normal, _sums(gamma_grad))
            if beta_grad is not None:
                self._do.column_sums(shards, dy, None, _sums(beta_grad))
            if not need_dx:
                return None
            self._do.layer_norm_backward(normal, inverse, gamma, dy, dy)
            return dy

        return y, backward

    def add(self, x1: Array, x2: Array, out: Array) -> Array:
        """Add."""
        self._do.add(self._plain(x1, out.dtype), self._plain(x2, out.dtype), out)
        return out

    def copy(self, x: Array, out: Array) -> Array:
        """Copy."""
        self._do.activate(CODES["linear"], self._plain(x, out.dtype), out)
        return out

    def loss(
        self, ctx: Workspace, loss: HeadedLoss, logits: Array, targets: Array, weights: Array | None
    ) -> tuple[Array, Array, Callable[[], Array]]:
        """Compute losses and their gradient in one pass, behind the head."""
        logits = self._plain(logits, _real(logits))
        weights = None if weights is None else self._plain(weights, logits.dtype)
        fused = loss.head == loss.loss.fused_head
        outputs = logits
        if fused or loss.head != "linear":
            outputs = ctx.scratch(_LOSS, "outputs", logits.shape, logits.dtype)
        if not fused and loss.head != "linear":
            self._do.activate(CODES[loss.head], logits, outputs)
        if targets.dtype.kind in "iu":
            targets = targets.astype(np.int64, copy=False)
        gradient = ctx.scratch(_LOSS, "gradient", logits.shape, logits.dtype)
        terms = ctx.scratch(_LOSS, "terms", logits.shape[:1], np.float64)
        self._do.loss(
            LOSS_CODES[loss.loss.name],
            fused,
            logits if fused else outputs,
            targets,
            weights,
            outputs if fused else None,
            gradient,
            terms,
            getattr(loss.loss, "label_smoothing", 0.0),
            getattr(loss.loss, "delta", 1.0),
        )

        def backward() -> Array:
            if fused or loss.head == "linear":
                return gradient
            return self._pull(loss.head, logits if loss.head in FROM_INPUT else outputs, gradient)

        return terms, outputs, backward

    def total(self, ctx: Workspace, terms: Array) -> float:
        """Add one after the other."""
        out = np.zeros(1)
        core.shard_totals(_one_shard(len(terms)).times(1), terms, (out,))
        return float(out[0])

    def _plain(self, array: Array, dtype: DTypeLike) -> Array:
        """Return the array C-ordered and of that type, which what a layer of one's own returns need not be."""
        plain = np.require(array, dtype, "C")
        assert plain is array or self._do is core, "a program would keep the copy"
        return plain

    def _own(self, dy: Array, dtype: DTypeLike) -> Array:
        """Return the same, in memory that may be written to."""
        return self._plain(dy if dy.flags.writeable else dy.copy(), dtype)

    def _pull(self, activation: str, saved: Array, dy: Array) -> Array:
        """Return dy times the derivative, in the memory of dy."""
        if activation != "linear":
            self._do.activate_backward(CODES[activation], saved, dy, dy)
        return dy

    def _shards_of(self, rows: int) -> Any:
        return (self._shards or _one_shard(rows)).of(rows)


def _real(x: Array) -> DTypeLike:
    return x.dtype if x.dtype.char in "fd" else np.float64


NATIVE = NativeArithmetic()


def _one_shard(rows: int) -> ShardRows:
    return ShardRows([(0, 1)], [0, rows])


def _sums(grad: Grad) -> tuple[Array, ...]:
    return grad if isinstance(grad, tuple) else (grad,)

"""Batch normalisation: sums for each gradient shard, and the passes that go on from sums."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hpcnn.nn.arithmetic import BatchNormBackward, Grad, NormBackward
from hpcnn.nn.native.base import NativeBase, one_shard, sums
from hpcnn.nn.workspace import Array, Workspace


class NativeBatchNormalization(NativeBase):
    """See `Arithmetic`. Nothing is read here: sums may be filled when the operations are done."""

    def batch_sums(self, ctx: Workspace, owner: object, x: Array, shift: Array) -> Array:
        """Sum differences and squares in one pass."""
        x, shards = self._plain(x, shift.dtype), self._shards or one_shard(len(x))
        rows = ctx.scratch(owner, "sums", (shards.leaves, 1 + 2 * x.shape[1]), np.float64)
        self._do.channel_sums(shards.of(len(x)), x, shift, rows)
        return rows

    def batch_norm(
        self,
        ctx: Workspace,
        owner: object,
        x: Array,
        sums: Array,
        shift: Array,
        gamma: Array | None,
        beta: Array | None,
        epsilon: float,
        *,
        relu: bool = False,
    ) -> tuple[Array, BatchNormBackward]:
        """Make moments of the sums, and normalise by them; relu is part of the same operations."""
        x = self._plain(x, shift.dtype)
        norm = self._moments(ctx, owner, x, sums, shift, None, gamma, beta, epsilon, relu=relu)
        return norm.forward(), norm

    def fixed_norm(
        self,
        ctx: Workspace,
        owner: object,
        x: Array,
        mean: Array,
        variance: Array,
        gamma: Array | None,
        beta: Array | None,
        epsilon: float,
        *,
        relu: bool = False,
    ) -> tuple[Array, NormBackward]:
        """Normalise by the given mean and variance."""
        x = self._plain(x, mean.dtype)
        norm = self._moments(ctx, owner, x, None, mean, variance, gamma, beta, epsilon, relu=relu)
        y = norm.forward()

        def backward(dy: Array, gamma_grad: Grad, beta_grad: Grad, /, *, need_dx: bool) -> Array | None:
            dy = self._pull("relu" if relu else "linear", y, self._own(dy, x.dtype))
            replace(norm, relu=False).sums(dy, gamma_grad, beta_grad, need_dx=False)
            if need_dx:
                self._do.normalize_backward(norm.segments, x, dy, norm.moments, None, gamma, None, False, dy)
            return dy if need_dx else None

        return y, backward

    def _moments(
        self,
        ctx: Workspace,
        owner: object,
        x: Array,
        rows: Array | None,
        shift: Array,
        variance: Array | None,
        gamma: Array | None,
        beta: Array | None,
        epsilon: float,
        *,
        relu: bool,
    ) -> _Norm:
        count = 1 if rows is None else len(rows)
        moments = ctx.scratch(owner, "moments", (count, 2 * x.shape[1]), np.float64)
        self._do.channel_moments(rows, shift, variance, moments, epsilon)
        segments = max(1, len(x)) if count == 1 else self._shards_of(len(x))
        return _Norm(self, ctx, owner, x, segments, moments, rows, gamma, beta, relu)


@dataclass(frozen=True)
class _Norm:
    """Rows of x with the mean, and 1 / deviation, of each column: of all rows, or of those of each shard."""

    core: NativeBatchNormalization
    ctx: Workspace
    owner: object
    x: Array
    segments: Any
    moments: Array
    rows: Array | None
    gamma: Array | None
    beta: Array | None
    relu: bool

    def forward(self) -> Array:
        y = self.ctx.scratch(self.owner, "y", self.x.shape, self.x.dtype)
        self.core._do.normalize(self.segments, self.x, self.moments, self.gamma, self.beta, self.relu, y)
        return y

    def sums(self, dy: Array, gamma: Grad, beta: Grad, /, *, need_dx: bool) -> Array:
        features, shards = self.x.shape[1], self.core._shards or one_shard(len(self.x))
        rows = self.ctx.scratch(self.owner, "sums of dy", (shards.leaves, 2 * features), np.float64)
        if gamma is None and beta is None and not need_dx:
            return rows
        dy = self.core._plain(dy, self.x.dtype)
        scale = (self.gamma, self.beta, self.relu)
        self.core._do.channel_products(shards.of(len(self.x)), self.x, dy, self.moments, *scale, rows)
        if gamma is not None:
            self.core._do.leaf_sums(shards.one_row_each, rows[:, features:], sums(gamma))
        if beta is not None:
            self.core._do.leaf_sums(shards.one_row_each, rows[:, :features], sums(beta))
        return rows

    def dx(self, dy: Array, sums: Array, /) -> Array:
        assert self.rows is not None
        dy = self.core._own(dy, self.x.dtype)
        slopes = self.ctx.scratch(self.owner, "slopes", self.moments.shape, np.float64)
        self.core._do.channel_slopes(self.rows[:, 0], sums, self.moments, self.gamma, slopes, 1)
        scale = (self.gamma, self.beta, self.relu)
        self.core._do.normalize_backward(self.segments, self.x, dy, self.moments, slopes, *scale, dy)
        return dy

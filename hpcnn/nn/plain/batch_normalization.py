"""Batch normalisation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpcnn.nn import activations
from hpcnn.nn.arithmetic import BatchNormBackward, Grad, NormBackward, Pull
from hpcnn.nn.plain.sums import sum_rows
from hpcnn.nn.workspace import Array, Workspace


class PlainBatchNormalization:
    """See `Arithmetic`. All is in float64 until the result: mean and variance are taken in one pass over x."""

    def batch_sums(self, ctx: Workspace, owner: object, x: Array, shift: Array) -> Array:
        """Sum differences and squares."""
        features = x.shape[1]
        sums = ctx.scratch(owner, "sums", (1, 1 + 2 * features), np.float64)
        sums[0, 0] = len(x)
        wide = ctx.scratch(owner, "wide", x.shape, np.float64)
        np.copyto(wide, x)  # NumPy converts within an operation in buffers that it allocates
        np.subtract(wide, shift.astype(np.float64), out=wide)
        sum_rows(wide, ctx, out=sums[0, 1 : 1 + features])
        np.multiply(wide, wide, out=wide)
        sum_rows(wide, ctx, out=sums[0, 1 + features :])
        return sums

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
        """Normalise by the sums, which are those of all rows."""
        features = x.shape[1]
        count = max(sums[0, 0], 1.0)
        offset, square = sums[0, 1 : 1 + features] / count, sums[0, 1 + features :] / count
        inverse = 1 / np.sqrt(np.maximum(square - offset * offset, 0) + epsilon)
        norm = _Norm(ctx, owner, x, shift + offset, inverse, gamma, count)
        y = norm.forward(beta)
        if not relu:
            return y, norm
        y, pull = activations.relu(y, ctx, owner)
        return y, _BeforeRelu(norm, pull)

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
        inverse = 1 / np.sqrt(variance.astype(np.float64) + epsilon)
        norm = _Norm(ctx, owner, x, mean.astype(np.float64), inverse, gamma)

        y = norm.forward(beta)
        y, pull = activations.relu(y, ctx, owner) if relu else (y, lambda dy: dy)

        def backward(dy: Array, gamma_grad: Grad, beta_grad: Grad, *, need_dx: bool) -> Array | None:
            dy = pull(dy)
            norm.sums(dy, gamma_grad, beta_grad, need_dx=False)
            return norm.scaled(dy) if need_dx else None

        return y, backward


@dataclass(frozen=True)
class _Norm:
    """Rows of x with the mean, and 1 / deviation, of each column: float64 (features,)."""

    ctx: Workspace
    owner: object
    x: Array
    mean: Array
    inverse: Array
    gamma: Array | None
    count: float = 1.0

    def factor(self) -> Array:
        return self.inverse if self.gamma is None else self.inverse * self.gamma

    def forward(self, beta: Array | None) -> Array:
        wide = self._centred()
        np.multiply(wide, self.factor(), out=wide)
        y = self.ctx.scratch(self.owner, "y", self.x.shape, self.x.dtype)
        np.add(wide, 0.0 if beta is None else beta.astype(np.float64), out=wide)
        np.copyto(y, wide, casting="same_kind")
        return y

    def scaled(self, dy: Array) -> Array:
        """Return dx where mean and variance do not depend on x, in the memory of dy."""
        wide = self._copy(dy)
        np.multiply(wide, self.factor(), out=wide)
        np.copyto(dy, wide, casting="same_kind")
        return dy

    def sums(self, dy: Array, gamma: Grad, beta: Grad, *, need_dx: bool) -> Array:
        features = self.x.shape[1]
        sums = self.ctx.scratch(self.owner, "sums of dy", (1, 2 * features), np.float64)
        if gamma is None and beta is None and not need_dx:
            return sums
        wide = self._centred()
        np.multiply(wide, self._copy(dy), out=wide)
        sum_rows(wide, self.ctx, out=sums[0, features:])
        np.multiply(sums[0, features:], self.inverse, out=sums[0, features:])
        sum_rows(self._copy(dy), self.ctx, out=sums[0, :features])
        if gamma is not None:
            np.copyto(gamma, sums[0, features:], casting="same_kind")
        if beta is not None:
            np.copyto(beta, sums[0, :features], casting="same_kind")
        return sums

    def dx(self, dy: Array, sums: Array) -> Array:
        # dx = gamma inverse (dy - mean(dy) - normal mean(dy normal))
        features = self.x.shape[1]
        wide = self._centred()
        np.multiply(wide, -self.inverse * (sums[0, features:] / self.count), out=wide)
        np.subtract(wide, sums[0, :features] / self.count, out=wide)
        np.add(wide, self._copy(dy), out=wide)
        np.multiply(wide, self.factor(), out=wide)
        np.copyto(dy, wide, casting="same_kind")
        return dy

    def _centred(self) -> Array:
        """Return x - mean, float64."""
        wide = self.ctx.scratch(self.owner, "wide", self.x.shape, np.float64)
        np.copyto(wide, self.x)
        return np.subtract(wide, self.mean, out=wide)

    def _copy(self, dy: Array) -> Array:
        """Return dy as float64."""
        copy = self.ctx.scratch(self.owner, "copy", self.x.shape, np.float64)
        np.copyto(copy, dy)
        return copy


@dataclass(frozen=True)
class _BeforeRelu:
    """The same with relu behind it."""

    norm: _Norm
    pull: Pull

    def sums(self, dy: Array, gamma: Grad, beta: Grad, /, *, need_dx: bool) -> Array:
        return self.norm.sums(self.pull(dy), gamma, beta, need_dx=need_dx)

    def dx(self, dy: Array, sums: Array, /) -> Array:
        return self.norm.dx(dy, sums)

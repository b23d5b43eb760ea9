"""Normalisation over groups of channels."""

from __future__ import annotations

import numpy as np

from hpcnn.nn.arithmetic import Grad, NormBackward
from hpcnn.nn.native.base import NativeBase, real_type, sums
from hpcnn.nn.workspace import Array, Workspace


class NativeGroupNormalization(NativeBase):
    """See `Arithmetic`. Each sample is a segment with moments of its own."""

    def group_norm(
        self,
        ctx: Workspace,
        owner: object,
        x: Array,
        groups: int,
        gamma: Array | None,
        beta: Array | None,
        epsilon: float,
    ) -> tuple[Array, NormBackward]:
        """Normalise each group of each sample."""
        scaled = gamma if beta is None else beta
        x = self._plain(x, real_type(x) if scaled is None else scaled.dtype)
        samples, positions, features = x.shape
        moments = ctx.scratch(owner, "moments", (samples, 2 * features), np.float64)
        y = ctx.scratch(owner, "y", x.shape, x.dtype)
        self._do.group_moments(x, groups, moments, epsilon)
        self._do.normalize(positions, x, moments, gamma, beta, False, y)
        count = np.array([float(positions * features // groups)])

        def backward(dy: Array, gamma_grad: Grad, beta_grad: Grad, /, *, need_dx: bool) -> Array | None:
            shards, dy = self._shards_of(samples), self._own(dy, x.dtype)
            terms = ctx.scratch(owner, "sums of dy", (samples, 2 * features), np.float64)
            self._do.channel_products(positions, x, dy, moments, None, None, False, terms)
            if gamma_grad is not None:
                self._do.leaf_sums(shards, terms[:, features:], sums(gamma_grad))
            if beta_grad is not None:
                self._do.leaf_sums(shards, terms[:, :features], sums(beta_grad))
            if not need_dx:
                return None
            self._do.channel_slopes(count, terms, moments, gamma, terms, features // groups)
            self._do.normalize_backward(positions, x, dy, moments, terms, gamma, None, False, dy)
            return dy

        return y, backward

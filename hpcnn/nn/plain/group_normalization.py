"""Normalisation over groups of channels."""

from __future__ import annotations

import numpy as np

from hpcnn.nn.arithmetic import Grad, NormBackward
from hpcnn.nn.plain.sums import sum_rows
from hpcnn.nn.workspace import Array, Workspace


class PlainGroupNormalization:
    """See `Arithmetic`. All is in float64 until the result."""

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
        features = x.shape[2]
        normal, product, other = (
            ctx.scratch(owner, use, x.shape, np.float64) for use in ("normal", "product", "other")
        )

        def grouped(values: Array) -> Array:
            return values.reshape(len(x), x.shape[1], groups, features // groups)

        np.copyto(normal, x)
        np.subtract(grouped(normal), _group_means(grouped(normal)), out=grouped(normal))
        np.multiply(normal, normal, out=product)
        inverse = 1 / np.sqrt(_group_means(grouped(product)) + epsilon)
        np.multiply(grouped(normal), inverse, out=grouped(normal))
        np.multiply(normal, 1 if gamma is None else gamma, out=product)
        y = ctx.scratch(owner, "y", x.shape, x.dtype)
        np.add(product, 0 if beta is None else beta, out=y, casting="same_kind")

        def backward(dy: Array, gamma_grad: Grad, beta_grad: Grad, *, need_dx: bool) -> Array | None:
            np.multiply(dy, normal, out=other)
            if gamma_grad is not None:
                sum_rows(other.reshape(-1, features), ctx, out=gamma_grad)
            np.copyto(product, dy)
            if beta_grad is not None:
                sum_rows(product.reshape(-1, features), ctx, out=beta_grad)
            if not need_dx:
                return None
            # dx = inverse (d - mean(d) - normal mean(d normal)), with d = gamma dy
            if gamma is not None:
                np.multiply(product, gamma, out=product)
                np.multiply(other, gamma, out=other)
            slope = _group_means(grouped(other))
            np.subtract(grouped(product), _group_means(grouped(product)), out=grouped(product))
            np.multiply(grouped(normal), slope, out=grouped(other))
            np.subtract(product, other, out=product)
            np.multiply(grouped(product), inverse, out=grouped(dy), casting="same_kind")
            return dy

        return y, backward


def _group_means(grouped: Array) -> Array:
    """Return the mean over positions and a group's features, shape (samples, 1, groups, 1)."""
    mean: Array = np.add.reduce(grouped, axis=(1, 3), keepdims=True) / (grouped.shape[1] * grouped.shape[3])
    return mean

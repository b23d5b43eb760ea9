"""Normalisations."""

from __future__ import annotations

import numpy as np

from hpcnn.nn.arithmetic import Grad, NormBackward
from hpcnn.nn.plain.sums import sum_rows
from hpcnn.nn.workspace import Array, Workspace


class PlainNormalization:
    """See `Arithmetic`."""

    def layer_norm(
        self, ctx: Workspace, owner: object, x: Array, gamma: Array | None, beta: Array | None, epsilon: float
    ) -> tuple[Array, NormBackward]:
        """Normalise each row."""
        normal, inverse = _normalize(x, epsilon, ctx, owner)
        y = normal
        if gamma is not None or beta is not None:
            y = ctx.scratch(owner, "y", x.shape, x.dtype)
            np.copyto(y, normal)
        if gamma is not None:
            np.multiply(y, gamma, out=y)
        if beta is not None:
            np.add(y, beta, out=y)

        def backward(dy: Array, gamma_grad: Grad, beta_grad: Grad, *, need_dx: bool) -> Array | None:
            product = ctx.scratch(owner, "product", x.shape, x.dtype)
            if gamma_grad is not None:
                np.multiply(dy, normal, out=product)
                sum_rows(product, ctx, out=gamma_grad)
            if beta_grad is not None:
                sum_rows(dy, ctx, out=beta_grad)
            if not need_dx:
                return None
            if gamma is not None:
                np.multiply(dy, gamma, out=dy)
            # dx = inverse (dy - mean(dy) - normal mean(dy normal))
            mean = ctx.scratch(owner, "mean", (len(x), 1), x.dtype)
            np.vecdot(dy, normal, out=mean[:, 0])
            np.divide(mean, x.shape[1], out=mean)
            np.multiply(normal, mean, out=product)
            np.add.reduce(dy, axis=1, keepdims=True, out=mean)
            np.divide(mean, x.shape[1], out=mean)
            np.subtract(dy, mean, out=dy)
            np.subtract(dy, product, out=dy)
            return np.multiply(dy, inverse, out=dy)

        return y, backward


def _normalize(x: Array, epsilon: float, ctx: Workspace, owner: object) -> tuple[Array, Array]:
    """Return (x - mean) / deviation, shape (m, features), and 1 / deviation, shape (m, 1)."""
    inverse = ctx.scratch(owner, "inverse", (len(x), 1), x.dtype)
    normal = ctx.scratch(owner, "normal", x.shape, x.dtype)
    np.add.reduce(x, axis=1, keepdims=True, out=inverse)
    np.divide(inverse, x.shape[1], out=inverse)
    np.subtract(x, inverse, out=normal)
    np.vecdot(normal, normal, out=inverse[:, 0])
    np.divide(inverse, x.shape[1], out=inverse)
    np.add(inverse, epsilon, out=inverse)
    np.sqrt(inverse, out=inverse)
    np.divide(1, inverse, out=inverse)
    np.multiply(normal, inverse, out=normal)
    return normal, inverse

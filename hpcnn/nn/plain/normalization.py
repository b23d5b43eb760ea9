"""Normalisations."""

from __future__ import annotations

import numpy as np

from hpcnn.nn.arithmetic import Grad, NormBackward, RmsNormBackward
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

    def rms_norm(
        self, ctx: Workspace, owner: object, x: Array, scale: Array, epsilon: float
    ) -> tuple[Array, RmsNormBackward]:
        """Normalise each row."""
        inverse = ctx.scratch(owner, "inverse", (len(x), 1), x.dtype)
        normal, y, product = (ctx.scratch(owner, use, x.shape, x.dtype) for use in ("normal", "y", "product"))
        np.vecdot(x, x, out=inverse[:, 0])
        _to_inverse_root(inverse, x.shape[1], epsilon)
        np.multiply(x, inverse, out=normal)
        np.multiply(normal, scale, out=y)

        def backward(dy: Array, scale_grad: Grad, *, need_dx: bool) -> Array | None:
            if scale_grad is not None:
                np.multiply(dy, normal, out=product)
                sum_rows(product, ctx, out=scale_grad)
            if not need_dx:
                return None
            # dx = inverse (d - normal mean(d normal)), with d = scale dy
            np.multiply(dy, scale, out=dy)
            mean = ctx.scratch(owner, "mean", (len(x), 1), x.dtype)
            np.vecdot(dy, normal, out=mean[:, 0])
            np.divide(mean, x.shape[1], out=mean)
            np.multiply(normal, mean, out=product)
            np.subtract(dy, product, out=dy)
            return np.multiply(dy, inverse, out=dy)

        return y, backward


def _to_inverse_root(squares: Array, n: int, epsilon: float) -> None:
    """Turn sums of n squares into 1 / sqrt(mean + epsilon)."""
    np.divide(squares, n, out=squares)
    np.add(squares, epsilon, out=squares)
    np.sqrt(squares, out=squares)
    np.divide(1, squares, out=squares)


def _normalize(x: Array, epsilon: float, ctx: Workspace, owner: object) -> tuple[Array, Array]:
    """Return (x - mean) / deviation, shape (m, features), and 1 / deviation, shape (m, 1)."""
    inverse = ctx.scratch(owner, "inverse", (len(x), 1), x.dtype)
    normal = ctx.scratch(owner, "normal", x.shape, x.dtype)
    np.add.reduce(x, axis=1, keepdims=True, out=inverse)
    np.divide(inverse, x.shape[1], out=inverse)
    np.subtract(x, inverse, out=normal)
    np.vecdot(normal, normal, out=inverse[:, 0])
    _to_inverse_root(inverse, x.shape[1], epsilon)
    np.multiply(normal, inverse, out=normal)
    return normal, inverse

"""Passes of layers in NumPy. Its BLAS library multiplies, so the bits depend on that and on the processor."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hpcnn.nn.activations import activation
from hpcnn.nn.arithmetic import DenseBackward, Grad, HeadedLoss, NormBackward, Pull
from hpcnn.nn.workspace import Array, Workspace


class NumpyArithmetic:
    """See `Arithmetic`. A row of a product may depend on its neighbours: a pass is one gradient shard."""

    def dense(
        self, ctx: Workspace, owner: object, x: Array, kernel: Array, bias: Array | None, name: str
    ) -> tuple[Array, DenseBackward]:
        """Multiply, and add the bias."""
        z = ctx.scratch(owner, "z", (len(x), kernel.shape[1]), kernel.dtype)
        ctx.matmul(x, kernel, out=z)
        if bias is not None:
            np.add(z, bias, out=z)
        y, activation_backward = activation(name)(z, ctx, owner)

        def backward(dy: Array, kernel_grad: Grad, bias_grad: Grad, *, need_dx: bool) -> Array | None:
            dz = activation_backward(dy)
            if kernel_grad is not None:
                ctx.matmul(x.T, dz, out=kernel_grad)
            if bias_grad is not None:
                _sum_rows(dz, ctx, out=bias_grad)
            if not need_dx:
                return None
            return ctx.matmul(dz, kernel.T, out=ctx.scratch(owner, "dx", x.shape, kernel.dtype))

        return y, backward

    def activation(self, ctx: Workspace, owner: object, name: str, x: Array) -> tuple[Array, Pull]:
        """Work on a copy."""
        z = ctx.scratch(owner, "z", x.shape, x.dtype)
        np.copyto(z, x)
        return activation(name)(z, ctx, owner)

    def dropout(self, ctx: Workspace, owner: object, x: Array, rate: float) -> tuple[Array, Pull]:
        """Draw from the generator of the pass."""
        factor = ctx.scratch(owner, "factor", x.shape, x.dtype)
        ctx.random.random(out=factor, dtype=x.dtype.type)
        np.subtract(factor, rate, out=factor)
        np.ceil(factor, out=factor)  # 1 where the draw is above the rate, else 0; needs no array of booleans
        np.multiply(factor, 1 / (1 - rate), out=factor)
        y = np.multiply(x, factor, out=ctx.scratch(owner, "y", x.shape, x.dtype))
        return y, lambda dy: np.multiply(dy, factor, out=dy)

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
                _sum_rows(product, ctx, out=gamma_grad)
            if beta_grad is not None:
                _sum_rows(dy, ctx, out=beta_grad)
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

    def add(self, x1: Array, x2: Array, out: Array) -> Array:
        """Add."""
        return np.add(x1, x2, out=out)

    def copy(self, x: Array, out: Array) -> Array:
        """Copy."""
        np.copyto(out, x)
        return out

    def loss(
        self, ctx: Workspace, loss: HeadedLoss, logits: Array, targets: Array, weights: Array | None
    ) -> tuple[Array, Array, Callable[[], Array]]:
        """Let the loss compute itself."""
        return loss.terms(logits, targets, weights, ctx)

    def total(self, ctx: Workspace, terms: Array) -> float:
        """Add in float64."""
        return float(np.add.reduce(terms, dtype=np.float64))


NUMPY = NumpyArithmetic()


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


def _sum_rows(rows: Array, ctx: Workspace, out: Array) -> None:
    """Write the sum of `rows`, shape (n, units), over n to `out`, shape (units,)."""
    np.matmul(ctx.ones(len(rows), rows.dtype), rows, out=out)  # twice as fast as np.add.reduce

"""Products with bias and activation, activations alone, and sums of two arrays."""

from __future__ import annotations

import numpy as np

from hpcnn.nn.activations import activation, relu
from hpcnn.nn.arithmetic import DenseBackward, Grad, Pull, PullTwice
from hpcnn.nn.plain.sums import sum_rows
from hpcnn.nn.workspace import Array, Workspace


class PlainDense:
    """See `Arithmetic`."""

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
                sum_rows(dz, ctx, out=bias_grad)
            if not need_dx:
                return None
            return ctx.matmul(dz, kernel.T, out=ctx.scratch(owner, "dx", x.shape, kernel.dtype))

        return y, backward

    def activation(self, ctx: Workspace, owner: object, name: str, x: Array) -> tuple[Array, Pull]:
        """Work on a copy."""
        z = ctx.scratch(owner, "z", x.shape, x.dtype)
        np.copyto(z, x)
        return activation(name)(z, ctx, owner)

    def add(self, x1: Array, x2: Array, out: Array) -> Array:
        """Add."""
        return np.add(x1, x2, out=out)

    def add_relu(self, ctx: Workspace, owner: object, x1: Array, x2: Array, out: Array) -> tuple[Array, PullTwice]:
        """Add, and apply relu."""
        y, pull_relu = relu(np.add(x1, x2, out=out), ctx, owner)

        def pull(dy: Array, copy: Array | None) -> Array:
            dx = pull_relu(dy)
            if copy is not None:
                np.copyto(copy, dx)
            return dx

        return y, pull

    def copy(self, x: Array, out: Array) -> Array:
        """Copy."""
        np.copyto(out, x)
        return out

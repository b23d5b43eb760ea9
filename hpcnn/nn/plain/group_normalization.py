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

        def means(values: Array, use: str) -> Array:
            """Return the mean over positions and a group's features, shape (samples, 1, groups, 1)."""
            mean = ctx.scratch(owner, use, (len(x), 1, groups, 1), np.float64)
            np.add.reduce(grouped(values), axis=(1, 3), keepdims=True, out=mean)
            np.divide(mean, x.shape[1] * features // groups, out=mean)
            return mean

        np.copyto(normal, x)
        np.subtract(grouped(normal), means(normal, "mean"), out=grouped(normal))
        np.multiply(normal, normal, out=product)
        inverse = means(product, "inverse")
        np.add(inverse, epsilon, out=inverse)
        np.divide(1, np.sqrt(inverse, out=inverse), out=inverse)
        np.multiply(grouped(normal), inverse, out=grouped(normal))
        wide_gamma = None if gamma is None else gamma.astype(np.float64)
        np.multiply(normal, 1.0 if wide_gamma is None else wide_gamma, out=product)
        np.add(product, 0.0 if beta is None else beta.astype(np.float64), out=product)
        y = ctx.scratch(owner, "y", x.shape, x.dtype)
        np.copyto(y, product, casting="same_kind")

        def backward(dy: Array, gamma_grad: Grad, beta_grad: Grad, *, need_dx: bool) -> Array | None:
            np.copyto(product, dy)
            np.multiply(product, normal, out=other)
            total = ctx.scratch(owner, "total", (1, features), np.float64)[0]
            for grad, terms in ((gamma_grad, other), (beta_grad, product)):
                if grad is not None:
                    sum_rows(terms.reshape(-1, features), ctx, out=total)
                    np.copyto(grad, total, casting="same_kind")
            if not need_dx:
                return None
            # dx = inverse (d - mean(d) - normal mean(d normal)), with d = gamma dy
            if wide_gamma is not None:
                np.multiply(product, wide_gamma, out=product)
                np.multiply(other, wide_gamma, out=other)
            np.multiply(grouped(normal), means(other, "slope"), out=grouped(other))
            np.subtract(grouped(product), means(product, "mean"), out=grouped(product))
            np.subtract(product, other, out=product)
            np.multiply(grouped(product), inverse, out=grouped(product))
            np.copyto(dy, product, casting="same_kind")
            return dy

        return y, backward

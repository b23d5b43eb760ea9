"""Layer normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpcnn.errors import ModelError
from hpcnn.nn.context import Array, Context
from hpcnn.nn.initializers import ones, zeros
from hpcnn.nn.layer import Backward, Layer, Params, Shape
from hpcnn.nn.layers import sum_rows
from hpcnn.nn.params import ParamSpec


@dataclass(frozen=True)
class LayerNorm(Layer):
    """y = gamma (x - mean) / sqrt(variance + epsilon) + beta, over the last axis (Ba, Kiros and Hinton, 2016)."""

    epsilon: float = 1e-3
    center: bool = True
    scale: bool = True
    trainable: bool = True

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise ModelError(f"{self.title}: epsilon must be above 0, but is {self.epsilon}")

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return `input_shape`."""
        if not input_shape:
            raise ModelError(
                f"{self.title} needs inputs with at least one axis, but each sample is a single number (shape ())"
            )
        return input_shape

    def ending(self, before: str | None) -> str | None:
        """Return "linear"."""
        return "linear"

    def parameters(self, input_shape: Shape) -> Sequence[ParamSpec]:
        """Return gamma and beta (features,), those that there are."""
        specs = []
        if self.scale:
            specs.append(ParamSpec(f"{self.name}/gamma", input_shape[-1:], ones, self.trainable))
        if self.center:
            specs.append(ParamSpec(f"{self.name}/beta", input_shape[-1:], zeros, self.trainable))
        return specs

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y, of x's shape, in scratch."""
        rows = x.reshape(-1, x.shape[-1])
        normal, inverse = self._normalize(rows, ctx)
        y = normal
        if self.scale or self.center:
            y = ctx.scratch(self.name, "y", rows.shape, x.dtype)
            np.copyto(y, normal)
        if self.scale:
            np.multiply(y, params[f"{self.name}/gamma"], out=y)
        if self.center:
            np.add(y, params[f"{self.name}/beta"], out=y)

        def backward(dy: Array, grads: Params, *, need_dx: bool = True) -> Array | None:
            dy = dy.reshape(rows.shape)
            product = ctx.scratch(self.name, "product", rows.shape, x.dtype)
            if self.scale and self.trainable:
                np.multiply(dy, normal, out=product)
                sum_rows(product, ctx, out=grads[f"{self.name}/gamma"])
            if self.center and self.trainable:
                sum_rows(dy, ctx, out=grads[f"{self.name}/beta"])
            if not need_dx:
                return None
            if self.scale:
                np.multiply(dy, params[f"{self.name}/gamma"], out=dy)
            # dx = inverse (dy - mean(dy) - normal mean(dy normal))
            mean = ctx.scratch(self.name, "mean", (len(rows), 1), x.dtype)
            np.vecdot(dy, normal, out=mean[:, 0])
            np.divide(mean, rows.shape[1], out=mean)
            np.multiply(normal, mean, out=product)
            np.add.reduce(dy, axis=1, keepdims=True, out=mean)
            np.divide(mean, rows.shape[1], out=mean)
            np.subtract(dy, mean, out=dy)
            np.subtract(dy, product, out=dy)
            return np.multiply(dy, inverse, out=dy).reshape(x.shape)

        return y.reshape(x.shape), backward

    def _normalize(self, rows: Array, ctx: Context) -> tuple[Array, Array]:
        """Return (x - mean) / deviation, shape (m, features), and 1 / deviation, shape (m, 1)."""
        inverse = ctx.scratch(self.name, "inverse", (len(rows), 1), rows.dtype)
        normal = ctx.scratch(self.name, "normal", rows.shape, rows.dtype)
        np.add.reduce(rows, axis=1, keepdims=True, out=inverse)
        np.divide(inverse, rows.shape[1], out=inverse)
        np.subtract(rows, inverse, out=normal)
        np.vecdot(normal, normal, out=inverse[:, 0])
        np.divide(inverse, rows.shape[1], out=inverse)
        np.add(inverse, self.epsilon, out=inverse)
        np.sqrt(inverse, out=inverse)
        np.divide(1, inverse, out=inverse)
        np.multiply(normal, inverse, out=normal)
        return normal, inverse

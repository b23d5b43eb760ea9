"""Normalisations over the last axis of each sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpcnn.errors import ModelError
from hpcnn.nn.context import Context
from hpcnn.nn.initializers import ones, zeros
from hpcnn.nn.layer import Backward, Layer, Params, Shape
from hpcnn.nn.params import ParamSpec
from hpcnn.nn.workspace import Array


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
        gamma, beta = f"{self.name}/gamma", f"{self.name}/beta"
        rows = x.reshape(-1, x.shape[-1])
        y, norm_backward = ctx.arithmetic.layer_norm(
            ctx, self.name, rows, params.get(gamma), params.get(beta), self.epsilon
        )

        def backward(dy: Array, grads: Params, *, need_dx: bool = True) -> Array | None:
            dx = norm_backward(dy.reshape(rows.shape), grads.get(gamma), grads.get(beta), need_dx=need_dx)
            return None if dx is None else dx.reshape(x.shape)

        return y.reshape(x.shape), backward


@dataclass(frozen=True)
class RMSNormalization(Layer):
    """y = scale x / sqrt(mean of x^2 + epsilon), over the last axis (Zhang and Sennrich, 2019)."""

    epsilon: float = 1e-6
    trainable: bool = True

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise ModelError(f"{self.title}: epsilon must be above 0, but is {self.epsilon}")

    @property
    def kind(self) -> str:
        """What a job file calls such layers."""
        return "rms_normalization" if type(self) is RMSNormalization else super().kind

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
        """Return the scale (features,)."""
        return [ParamSpec(f"{self.name}/scale", input_shape[-1:], ones, self.trainable)]

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y, of x's shape, in scratch."""
        name = f"{self.name}/scale"
        rows = x.reshape(-1, x.shape[-1])
        y, norm_backward = ctx.arithmetic.rms_norm(ctx, self.name, rows, params[name], self.epsilon)

        def backward(dy: Array, grads: Params, *, need_dx: bool = True) -> Array | None:
            dx = norm_backward(dy.reshape(rows.shape), grads.get(name), need_dx=need_dx)
            return None if dx is None else dx.reshape(x.shape)

        return y.reshape(x.shape), backward

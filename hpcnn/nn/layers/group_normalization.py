"""Normalisation of each sample over groups of channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hpcnn.errors import ModelError
from hpcnn.nn.context import Context
from hpcnn.nn.initializers import ones, zeros
from hpcnn.nn.layer import Backward, Layer, Params, Shape
from hpcnn.nn.params import ParamSpec
from hpcnn.nn.workspace import Array


@dataclass(frozen=True)
class GroupNormalization(Layer):
    """y = gamma (x - mean) / sqrt(variance + epsilon) + beta, over all positions and a group of channels of a sample.

    The channels are the last axis. One group is layer normalisation over all axes; a group for each channel (-1) is
    instance normalisation. Source: Wu and He, 2018.
    """

    groups: int = 32
    epsilon: float = 1e-3
    center: bool = True
    scale: bool = True
    trainable: bool = True

    def __post_init__(self) -> None:
        if self.groups < 1 and self.groups != -1:
            raise ModelError(
                f"{self.title}: groups must be at least 1, or -1 for a group of each channel, but is {self.groups}"
            )
        if not self.epsilon > 0:
            raise ModelError(f"{self.title}: epsilon must be above 0, but is {self.epsilon}")

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return `input_shape`."""
        if not input_shape:
            raise ModelError(
                f"{self.title} needs inputs with at least one axis, but each sample is a single number (shape ())"
            )
        channels = input_shape[-1]
        if self.groups != -1 and channels % self.groups:
            raise ModelError(
                f"{self.title} can't divide {channels} channels into {self.groups} equal groups: set groups to a "
                f"divisor of {channels}, or to -1 for a group of each channel"
            )
        return input_shape

    def ending(self, before: str | None) -> str | None:
        """Return "linear"."""
        return "linear"

    def parameters(self, input_shape: Shape) -> Sequence[ParamSpec]:
        """Return gamma and beta (channels,), those that there are."""
        specs = []
        if self.scale:
            specs.append(ParamSpec(f"{self.name}/gamma", input_shape[-1:], ones, self.trainable))
        if self.center:
            specs.append(ParamSpec(f"{self.name}/beta", input_shape[-1:], zeros, self.trainable))
        return specs

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y, of x's shape, in scratch."""
        gamma, beta, channels = f"{self.name}/gamma", f"{self.name}/beta", x.shape[-1]
        samples = x.reshape(len(x), math.prod(x.shape[1:-1]), channels)
        groups = channels if self.groups == -1 else self.groups
        y, norm_backward = ctx.arithmetic.group_norm(
            ctx, self.name, samples, groups, params.get(gamma), params.get(beta), self.epsilon
        )

        def backward(dy: Array, grads: Params, *, need_dx: bool = True) -> Array | None:
            dx = norm_backward(dy.reshape(samples.shape), grads.get(gamma), grads.get(beta), need_dx=need_dx)
            return None if dx is None else dx.reshape(x.shape)

        return y.reshape(x.shape), backward

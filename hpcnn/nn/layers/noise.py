"""Layers that draw random numbers in training."""

from __future__ import annotations

from dataclasses import dataclass

from hpcnn.errors import ModelError
from hpcnn.nn.context import Context
from hpcnn.nn.layer import Backward, Layer, Params, Shape, without_parameters
from hpcnn.nn.layers.spatial import spatial_axes
from hpcnn.nn.workspace import Array


@dataclass(frozen=True)
class Dropout(Layer):
    """Zeroes a share `rate` of the inputs while training, and scales the others by 1 / (1 - rate).

    Source: Srivastava et al., 2014, in the inverted form. The draws depend on the context's random key alone.
    """

    rate: float

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise ModelError(f"{self.title}: rate must be at least 0 and below 1, but is {self.rate}")

    def ending(self, before: str | None) -> str | None:
        """Return `before`."""
        return before

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y, of x's shape: in scratch while training, else x itself."""
        if not ctx.training or self.rate == 0:
            return x, lambda dy, grads, *, need_dx=True: dy if need_dx else None
        y, pull = ctx.arithmetic.dropout(ctx, self.name, x, self.rate)
        return y, without_parameters(pull)


@dataclass(frozen=True)
class SpatialDropout(Layer):
    """Zeroes a share `rate` of each sample's channels while training, and scales the others by 1 / (1 - rate).

    Source: Tompson et al., 2015. Positions next to each other are alike, so that `Dropout` would take away too little.
    """

    rate: float

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise ModelError(f"{self.title}: rate must be at least 0 and below 1, but is {self.rate}")

    def ending(self, before: str | None) -> str | None:
        """Return `before`."""
        return before

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return `input_shape`."""
        spatial_axes(self, input_shape)
        return input_shape

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y, of x's shape: in scratch while training, else x itself."""
        if not ctx.training or self.rate == 0:
            return x, lambda dy, grads, *, need_dx=True: dy if need_dx else None
        y, pull = ctx.arithmetic.spatial_dropout(ctx, self.name, x, self.rate)
        return y, without_parameters(pull)


@dataclass(frozen=True)
class GaussianNoise(Layer):
    """Adds normal numbers of standard deviation `stddev` to the inputs while training."""

    stddev: float

    def __post_init__(self) -> None:
        if not 0 <= self.stddev <= 1:
            raise ModelError(f"{self.title}: stddev must be between 0 and 1, but is {self.stddev}")

    def ending(self, before: str | None) -> str | None:
        """Return `before`."""
        return before

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y, of x's shape: in scratch while training, else x itself."""
        if ctx.training and self.stddev > 0:
            x = ctx.arithmetic.gaussian_noise(ctx, self.name, x, self.stddev)
        return x, lambda dy, grads, *, need_dx=True: dy if need_dx else None

"""Layers that draw random numbers in training."""

from __future__ import annotations

from dataclasses import dataclass

from hpcnn.errors import ModelError
from hpcnn.nn.context import Context
from hpcnn.nn.layer import Backward, Layer, Params, without_parameters
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

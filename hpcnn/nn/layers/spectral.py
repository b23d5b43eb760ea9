"""Convolutions in the space of frequencies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpcnn.errors import ModelError
from hpcnn.nn.context import Context
from hpcnn.nn.initializers import complex_uniform
from hpcnn.nn.layer import Backward, Layer, Params, Shape
from hpcnn.nn.layers.spatial import axes_remedy
from hpcnn.nn.params import ParamSpec
from hpcnn.nn.workspace import Array


@dataclass(frozen=True)
class SpectralConv1D(Layer):
    """A matrix of its own for each of the lowest frequencies: (n, length, channels) -> (n, length, filters).

    y is the real inverse Fourier transform of W_k x_k, where x_k are the coefficients of x for the frequencies k = 0 to
    modes - 1, and W_k is complex; higher frequencies become 0. Source: Li et al., 2021, arXiv:2010.08895.
    """

    filters: int
    modes: int
    trainable: bool = True

    @property
    def kind(self) -> str:
        """What a job file calls such layers."""
        return "spectral_conv1d"

    def __post_init__(self) -> None:
        for key in ("filters", "modes"):
            if getattr(self, key) < 1:
                raise ModelError(f"{self.title}: {key} must be at least 1, but is {getattr(self, key)}")

    def ending(self, before: str | None) -> str | None:
        """Return "linear": it ends in a sum."""
        return "linear"

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return ``(length, filters)``."""
        if len(input_shape) != 2:
            raise ModelError(
                f"{self.title} needs inputs of shape (length, channels), but got {input_shape}. "
                f"{axes_remedy(input_shape, 2)}"
            )
        most = input_shape[0] // 2 + 1
        if self.modes > most:
            raise ModelError(
                f"{self.title}: {input_shape[0]} points have {most} frequencies, but modes is {self.modes}. Set it to "
                f"{most} at most."
            )
        return (input_shape[0], self.filters)

    def parameters(self, input_shape: Shape) -> Sequence[ParamSpec]:
        """Return the kernel (modes, 2, channels, filters): real and imaginary part for each frequency."""
        shape = (self.modes, 2, input_shape[1], self.filters)
        return [ParamSpec(f"{self.name}/kernel", shape, complex_uniform, self.trainable)]

    def multiply_adds(self, input_shape: Shape) -> int:
        """Return those of the transform, of the products of complex numbers, and of the transform back."""
        length, channels = input_shape
        return 2 * self.modes * (length * (channels + self.filters) + 2 * channels * self.filters)

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y (n, length, filters), in scratch."""
        kernel = f"{self.name}/kernel"
        y, pull = ctx.arithmetic.spectral_convolution(ctx, self.name, x, params[kernel])

        def backward(dy: Array, grads: Params, *, need_dx: bool = True) -> Array | None:
            return pull(dy, grads.get(kernel), need_dx=need_dx)

        return y, backward

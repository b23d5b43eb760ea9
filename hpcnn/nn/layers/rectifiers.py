"""Rectifiers whose slope for negative inputs, or limit, is learnt or set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpcnn.errors import ModelError
from hpcnn.nn.context import Context
from hpcnn.nn.initializers import initializer
from hpcnn.nn.layer import Backward, Layer, Params, Shape, without_parameters
from hpcnn.nn.params import ParamSpec
from hpcnn.nn.workspace import Array


@dataclass(frozen=True)
class PReLU(Layer):
    """y = x where x > 0, alpha x elsewhere, with a learnt alpha for each entry of a sample (He et al., 2015).

    `shared_axes`, counted from 1, have one alpha for all their entries. As in Keras, the gradient at x = 0 is 0.
    """

    shared_axes: Sequence[int] = ()
    alpha_initializer: str = "zeros"
    alpha_l1: float = 0.0
    alpha_l2: float = 0.0
    trainable: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "shared_axes", tuple(self.shared_axes))
        initializer(self.alpha_initializer)

    @property
    def kind(self) -> str:
        """Return "prelu"."""
        return "prelu"

    def ending(self, before: str | None) -> str | None:
        """Return "linear": outputs may be any number."""
        return "linear"

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return `input_shape`."""
        axes = len(input_shape)
        if len(set(self.shared_axes)) != len(self.shared_axes) or any(
            not 1 <= axis <= axes for axis in self.shared_axes
        ):
            raise ModelError(
                f"{self.title}: shared_axes must hold axes of a sample, counted from 1, each once: of samples of shape "
                f"{input_shape} 1 to {axes}. But it is {list(self.shared_axes)}."
            )
        return input_shape

    def parameters(self, input_shape: Shape) -> Sequence[ParamSpec]:
        """Return alpha: a sample's shape, with 1 for shared axes."""
        shape = tuple(1 if axis in self.shared_axes else length for axis, length in enumerate(input_shape, 1))
        start = initializer(self.alpha_initializer)
        return [ParamSpec(f"{self.name}/alpha", shape, start, self.trainable, self.alpha_l1, self.alpha_l2)]

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y, of x's shape, in scratch."""
        alpha = f"{self.name}/alpha"
        y, prelu_backward = ctx.arithmetic.prelu(ctx, self.name, x, params[alpha])

        def backward(dy: Array, grads: Params, *, need_dx: bool = True) -> Array | None:
            return prelu_backward(dy, grads.get(alpha), need_dx=need_dx)

        return y, backward


@dataclass(frozen=True)
class LeakyReLU(Layer):
    """y = x where x > 0, negative_slope x elsewhere. The activation "leaky_relu" is the same with a slope of 0.2."""

    negative_slope: float = 0.3

    def __post_init__(self) -> None:
        if not self.negative_slope >= 0:
            raise ModelError(f"{self.title}: negative_slope must be at least 0, but is {self.negative_slope}")

    @property
    def kind(self) -> str:
        """Return "leaky_relu"."""
        return "leaky_relu"

    def ending(self, before: str | None) -> str | None:
        """Return "leaky_relu"."""
        return "leaky_relu"

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y, of x's shape, in scratch."""
        y, pull = ctx.arithmetic.leaky_relu(ctx, self.name, x, self.negative_slope)
        return y, without_parameters(pull)


@dataclass(frozen=True)
class ELU(Layer):
    """y = x where x > 0, alpha (exp(x) - 1) elsewhere. The activation "elu" is the same with an alpha of 1."""

    alpha: float = 1.0

    def __post_init__(self) -> None:
        if not self.alpha >= 0:
            raise ModelError(f"{self.title}: alpha must be at least 0, but is {self.alpha}")

    def ending(self, before: str | None) -> str | None:
        """Return "elu"."""
        return "elu"

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y, of x's shape, in scratch."""
        y, pull = ctx.arithmetic.activation(ctx, (self.name, "elu"), "elu", x)
        if self.alpha == 1:
            return y, without_parameters(pull)
        y, scaled_pull = ctx.arithmetic.leaky_relu(ctx, self.name, y, self.alpha)
        return y, without_parameters(lambda dy: pull(scaled_pull(dy)))

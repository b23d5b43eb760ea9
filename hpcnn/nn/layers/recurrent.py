"""Recurrent layers over sequences (n, steps, features)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpcnn.errors import ModelError
from hpcnn.nn.activations import activation
from hpcnn.nn.arithmetic import Cell
from hpcnn.nn.context import Context
from hpcnn.nn.draws import Draws
from hpcnn.nn.initializers import OwnInitializer, initializer
from hpcnn.nn.layer import Backward, Layer, Params, Shape
from hpcnn.nn.layers.spatial import axes_remedy
from hpcnn.nn.params import ParamSpec
from hpcnn.nn.workspace import Array


@dataclass(frozen=True)
class Recurrent(Layer):
    """What all recurrent layers share: a cell that goes through the steps of a sequence."""

    units: int
    activation: str = "tanh"
    use_bias: bool = True
    return_sequences: bool = False
    go_backwards: bool = False
    kernel_initializer: str = "glorot_uniform"
    recurrent_initializer: str = "orthogonal"
    bias_initializer: str = "zeros"
    kernel_l1: float = 0.0
    kernel_l2: float = 0.0
    recurrent_l1: float = 0.0
    recurrent_l2: float = 0.0
    bias_l1: float = 0.0
    bias_l2: float = 0.0
    trainable: bool = True

    def __post_init__(self) -> None:
        if self.units < 1:
            raise ModelError(f"{self.title}: units must be at least 1, but is {self.units}")
        for name in {self.cell.activation, self.cell.recurrent_activation}:
            activation(name)
            if name == "softmax":
                raise ModelError(
                    f"{self.title}: a cell computes each unit on its own, so its activation can't be 'softmax'. Put a "
                    "dense layer with it behind the layer."
                )
        initializer(self.kernel_initializer)
        initializer(self.recurrent_initializer)
        initializer(self.bias_initializer)

    @property
    def cell(self) -> Cell:
        """The cell, as an arithmetic takes it."""
        raise NotImplementedError(f"{type(self).__name__} has no cell")

    @property
    def bias_shape(self) -> Shape:
        """The shape of the bias."""
        return (self.cell.gates * self.units,)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return ``(steps, units)`` with `return_sequences`, else ``(units,)``."""
        check_steps(self, input_shape, exactly=2)
        return (input_shape[0], self.units) if self.return_sequences else (self.units,)

    def parameters(self, input_shape: Shape) -> Sequence[ParamSpec]:
        """Return the kernel (features, gates units), the recurrent kernel (units, gates units), and the bias."""
        width = self.cell.gates * self.units
        first, recurrent = initializer(self.kernel_initializer), initializer(self.recurrent_initializer)
        arrays: list[tuple[str, Shape, OwnInitializer, float, float]] = [
            ("kernel", (input_shape[-1], width), first, self.kernel_l1, self.kernel_l2),
            ("recurrent_kernel", (self.units, width), recurrent, self.recurrent_l1, self.recurrent_l2),
        ]
        if self.use_bias:
            arrays.append(("bias", self.bias_shape, self.bias_start(), self.bias_l1, self.bias_l2))
        return [
            ParamSpec(f"{self.name}/{name}", shape, start, self.trainable, l1, l2)
            for name, shape, start, l1, l2 in arrays
        ]

    def bias_start(self) -> OwnInitializer:
        """Return how the bias starts."""
        return initializer(self.bias_initializer)

    def ending(self, before: str | None) -> str | None:
        """Return "linear": outputs are sums or products of what went through activations."""
        return "linear"

    def multiply_adds(self, input_shape: Shape) -> int:
        """Return the multiply-adds of a forward pass over one sample of `input_shape`."""
        return input_shape[0] * (input_shape[1] + self.units) * self.cell.gates * self.units

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y, (n, steps, units) or (n, units), in scratch; with `go_backwards` the last step's output first."""
        dtype = params[f"{self.name}/kernel"].dtype
        y = ctx.scratch(self.name, "y", (len(x), *self.output_shape(x.shape[1:])), dtype)
        turned = self.go_backwards and self.return_sequences
        recurrent_backward = self.steps(params, x, ctx, y[:, ::-1] if turned else y)

        def backward(dy: Array, grads: Params, *, need_dx: bool = True) -> Array | None:
            dy = dy.reshape(y.shape)
            return recurrent_backward(dy[:, ::-1] if turned else dy, grads, need_dx=need_dx)

        return y, backward

    def steps(self, params: Params, x: Array, ctx: Context, y: Array) -> Backward:
        """Write the output of each step to its place in `y`, or that of the last, and return the pass back."""
        kernel, recurrent_kernel, bias = (f"{self.name}/{name}" for name in ("kernel", "recurrent_kernel", "bias"))
        cell_backward = ctx.arithmetic.recurrent(
            ctx, self.name, self.cell, x, params[kernel], params[recurrent_kernel], params.get(bias), y
        )

        def backward(dy: Array, grads: Params, *, need_dx: bool = True) -> Array | None:
            return cell_backward(dy, grads.get(kernel), grads.get(recurrent_kernel), grads.get(bias), need_dx=need_dx)

        return backward


@dataclass(frozen=True)
class SimpleRNN(Recurrent):
    """h' = activation(x . kernel + h . recurrent_kernel + bias) at each step (Elman, 1990)."""

    @property
    def cell(self) -> Cell:
        """The cell, as an arithmetic takes it."""
        return Cell("simple_rnn", self.activation, "linear", self.go_backwards)

    def ending(self, before: str | None) -> str | None:
        """Return the activation: not of a subclass, which may do more."""
        return self.activation if type(self) is SimpleRNN else None


@dataclass(frozen=True)
class LSTM(Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997); gates in the order i, f, c, o."""

    recurrent_activation: str = "sigmoid"
    unit_forget_bias: bool = True

    @property
    def cell(self) -> Cell:
        """The cell, as an arithmetic takes it."""
        return Cell("lstm", self.activation, self.recurrent_activation, self.go_backwards)

    def bias_start(self) -> OwnInitializer:
        """Return how the bias starts: with `unit_forget_bias`, the forget gate's at 1 (Jozefowicz et al., 2015)."""
        start = initializer(self.bias_initializer)
        if not self.unit_forget_bias:
            return start

        def draw(shape: Shape, draws: Draws) -> Array:
            bias = start.draw(shape, draws)
            bias[self.units : 2 * self.units] = 1
            return bias

        return OwnInitializer(draw)


@dataclass(frozen=True)
class GRU(Recurrent):
    """Gated recurrent unit (Cho et al., 2014); gates in the order z, r, h.

    With `reset_after` the reset gate scales a product with a bias of its own, else the outputs before the product.
    """

    recurrent_activation: str = "sigmoid"
    reset_after: bool = True

    @property
    def cell(self) -> Cell:
        """The cell, as an arithmetic takes it."""
        kind = "gru_after" if self.reset_after else "gru_before"
        return Cell(kind, self.activation, self.recurrent_activation, self.go_backwards)

    @property
    def bias_shape(self) -> Shape:
        """The shape of the bias: with `reset_after` that of the inputs, and that of the outputs before."""
        return (2, 3 * self.units) if self.reset_after else (3 * self.units,)


def check_steps(layer: Layer, input_shape: Shape, *, exactly: int = 0) -> None:
    """Check that samples have an axis of steps, and so many axes in all.

    Raises:
        ModelError: they do not.
    """
    if (len(input_shape) != exactly if exactly else len(input_shape) < 1) or input_shape[0] < 1:
        wanted = "(steps, features)" if exactly else "(steps, ...)"
        raise ModelError(
            f"{layer.title} takes samples of shape {wanted}, with one step at least, but each sample has the shape "
            f"{input_shape}. {axes_remedy(input_shape, 2)} Behind another recurrent layer, set return_sequences = true "
            "of that one."
        )

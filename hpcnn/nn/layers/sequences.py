"""Layers that go through sequences with another layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hpcnn.errors import ModelError, unknown_name
from hpcnn.nn.context import Context
from hpcnn.nn.layer import Backward, Layer, MultiInput, Params, Shape
from hpcnn.nn.layers import noise
from hpcnn.nn.layers.blocks import Opened
from hpcnn.nn.layers.recurrent import Recurrent, check_steps
from hpcnn.nn.observed import Checked, Observed
from hpcnn.nn.params import ParamSpec
from hpcnn.nn.workspace import Array

MERGE_MODES = ("concat", "sum", "mul", "ave")


@dataclass(frozen=True)
class _Around(Layer):
    """A layer around one other."""

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if len(self.layers) != 1:
            raise ModelError(f"{self.title} holds one layer, but got {len(self.layers)}")

    @property
    def inner(self) -> Layer:
        """The inner layer."""
        return self.layers[0]

    @property
    def children(self) -> tuple[Layer, ...]:
        """The inner layer."""
        return self.layers


@dataclass(frozen=True)
class Bidirectional(_Around):
    """A recurrent layer, and the same with parameters of its own from the last step to the first.

    Their parameters are ``forward_<name>/...`` and ``backward_<name>/...``. Source: Schuster and Paliwal, 1997.
    """

    merge_mode: str = "concat"
    """How outputs become one: ``concat``, ``sum``, ``mul`` or ``ave``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.inner, Recurrent):
            raise ModelError(
                f"{self.title} goes both ways with a recurrent layer (lstm, gru, simple_rnn), but holds a "
                f"{type(self.inner).__name__}"
            )
        if self.inner.go_backwards:
            raise ModelError(
                f"{self.title}: its layer {self.inner.name!r} must not set go_backwards: both ways are gone"
            )
        if self.merge_mode not in MERGE_MODES:
            unknown_name("merge_mode", self.merge_mode, MERGE_MODES, ModelError)

    @property
    def ways(self) -> tuple[Recurrent, Recurrent]:
        """The layer forward, and the one backward."""
        inner = self.inner
        assert isinstance(inner, Recurrent)
        return inner.named(f"forward_{inner.name}"), replace(inner, name=f"backward_{inner.name}", go_backwards=True)

    def with_children(self, children: Sequence[Layer]) -> Bidirectional:
        """Return the same around another layer: where that is only watched, around the layer itself."""
        return replace(self, layers=tuple(_bare(child) for child in children))

    def ending(self, before: str | None) -> str | None:
        """Return what the inner layer ends in, or "linear" for a sum or product of outputs."""
        return self.inner.ending(before) if self.merge_mode == "concat" else "linear"

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the inner layer's, with twice the units where outputs are concatenated."""
        *steps, units = self.inner.output_shape(input_shape)
        return (*steps, 2 * units if self.merge_mode == "concat" else units)

    def parameters(self, input_shape: Shape) -> Sequence[ParamSpec]:
        """Return those of the way forward, then those of the way backward."""
        return [spec for way in self.ways for spec in way.parameters(input_shape)]

    def multiply_adds(self, input_shape: Shape) -> int:
        """Return the multiply-adds of a forward pass over one sample of `input_shape`."""
        return 2 * self.inner.multiply_adds(input_shape)

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y in scratch: both outputs of a step are at its place."""
        n, combine, mode = len(x), ctx.arithmetic.combine, self.merge_mode
        units, dtype = self.ways[0].units, params[f"{self.ways[0].name}/kernel"].dtype
        y = ctx.scratch(self.name, "y", (n, *self.output_shape(x.shape[1:])), dtype)
        if mode == "concat":
            parts = [y[..., :units], y[..., units:]]
        else:
            parts = [ctx.scratch(self.name, use, y.shape, y.dtype) for use in ("forward", "backward")]
        backwards = [way.steps(params, x, ctx, part) for way, part in zip(self.ways, parts, strict=True)]
        if mode != "concat":
            combine({"sum": "add", "mul": "multiply", "ave": "average"}[mode], parts[0], parts[1], y)

        def backward(dy: Array, grads: Params, *, need_dx: bool = True) -> Array | None:
            dy = dy.reshape(y.shape)
            if mode == "concat":
                dparts = [dy[..., :units], dy[..., units:]]
            elif mode == "mul":
                uses = (ctx.scratch(self.name, use, y.shape, y.dtype) for use in ("dforward", "dbackward"))
                dparts = [combine("multiply", dy, other, use) for other, use in zip(parts[::-1], uses, strict=True)]
            elif mode == "ave":
                dparts = [combine("halve", dy, None, ctx.scratch(self.name, "share", y.shape, y.dtype))] * 2
            else:
                dparts = [dy] * 2
            dx, other = (each(part, grads, need_dx=need_dx) for each, part in zip(backwards, dparts, strict=True))
            return None if dx is None or other is None else ctx.arithmetic.add(dx, other, dx)

        return y, backward


@dataclass(frozen=True)
class TimeDistributed(_Around):
    """Another layer at each step, with the same parameters: (n, steps, ...) -> (n, steps, ...)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        drawing = _drawing(self.inner)
        if drawing is not None:
            raise ModelError(
                f"{self.title} can't hold {drawing.title}: random numbers are drawn for each sample. "
                f"Put the {drawing.kind} layer before or behind it, where it treats each step on its own already."
            )
        if isinstance(self.inner, Opened | MultiInput):
            raise ModelError(
                f"{self.title} goes step by step through one layer with one input, but holds {self.inner.title}. Put "
                "one around each layer that needs it; most layers treat each step on its own already."
            )

    def with_children(self, children: Sequence[Layer]) -> TimeDistributed:
        """Return the same around another layer."""
        return replace(self, layers=tuple(children))

    def ending(self, before: str | None) -> str | None:
        """Return what the inner layer ends in."""
        return self.inner.ending(before)

    def split_activation(self) -> tuple[Layer | None, str]:
        """Return the layer without the inner layer's activation, and that."""
        inner, name = self.inner.split_activation()
        return (None if inner is None else replace(self, layers=(inner,))), name

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return ``(steps, ...)``, as the inner layer has it for one step."""
        check_steps(self, input_shape)
        return (input_shape[0], *self.inner.output_shape(input_shape[1:]))

    def parameters(self, input_shape: Shape) -> Sequence[ParamSpec]:
        """Return those of the inner layer."""
        specs = self.inner.parameters(input_shape[1:])
        state = next((spec.name for spec in specs if spec.state), None)
        if state is not None:
            raise ModelError(
                f"{self.title} can't hold {self.inner.title}, which averages over the samples of a batch ({state!r}): "
                "put it before or behind it"
            )
        return specs

    def multiply_adds(self, input_shape: Shape) -> int:
        """Return the multiply-adds of a forward pass over one sample of `input_shape`."""
        return input_shape[0] * self.inner.multiply_adds(input_shape[1:])

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y, each step of each sample taken for a sample."""
        n, steps = x.shape[:2]
        y, inner_backward = self.inner.forward(params, x.reshape(n * steps, *x.shape[2:]), ctx)

        def backward(dy: Array, grads: Params, *, need_dx: bool = True) -> Array | None:
            dx = inner_backward(dy.reshape(y.shape), grads, need_dx=need_dx)
            return None if dx is None else dx.reshape(x.shape)

        return y.reshape(n, steps, *y.shape[1:]), backward


def _bare(layer: Layer) -> Layer:
    while isinstance(layer, (Observed, Checked)):
        layer = layer.layer
    return layer


def _drawing(layer: Layer) -> Layer | None:
    """Return the layer, or the first within it, that draws random numbers in training."""
    if type(layer).__module__ == noise.__name__:
        return layer
    return next(filter(None, map(_drawing, layer.children)), None)

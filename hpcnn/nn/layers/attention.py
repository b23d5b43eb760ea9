"""Attention of several heads: of a sequence to itself, or to another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpcnn.errors import ModelError
from hpcnn.nn.arithmetic import AttentionBackward, DenseBackward, Grad
from hpcnn.nn.context import Context
from hpcnn.nn.initializers import initializer
from hpcnn.nn.layer import Backward, Layer, MultiBackward, MultiInput, Params, Shape
from hpcnn.nn.params import ParamSpec
from hpcnn.nn.workspace import Array


@dataclass(frozen=True)
class _Attention(Layer):
    """Settings and projections of both layers.

    Heads share keys and values in groups, if `num_kv_heads` is below `num_heads` (Ainslie et al., 2023).
    """

    num_heads: int
    key_dim: int
    value_dim: int | None = None
    num_kv_heads: int | None = None
    output_dim: int | None = None
    use_bias: bool = True
    causal: bool = False
    kernel_initializer: str = "glorot_uniform"
    bias_initializer: str = "zeros"
    trainable: bool = True

    def __post_init__(self) -> None:
        for name in ("num_heads", "key_dim", "value_dim", "num_kv_heads", "output_dim"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ModelError(f"{self.title}: {name} must be at least 1, but is {number}")
        if self.num_heads % self.kv_heads:
            raise ModelError(
                f"{self.title}: num_kv_heads must divide num_heads, {self.num_heads}, but is {self.kv_heads}"
            )
        initializer(self.kernel_initializer)
        initializer(self.bias_initializer)

    @property
    def kv_heads(self) -> int:
        """How many heads keys and values have."""
        return self.num_heads if self.num_kv_heads is None else self.num_kv_heads

    @property
    def values(self) -> int:
        """The width of a head's values."""
        return self.key_dim if self.value_dim is None else self.value_dim

    def ending(self, before: str | None) -> str | None:
        """Return "linear": it ends in a product."""
        return "linear"

    def _check_sequence(self, shape: Shape) -> None:
        if len(shape) != 2:
            raise ModelError(
                f"{self.title} needs inputs of shape (length, features), but got {shape}. Put an embedding or a dense "
                "layer before it, or a reshape layer."
            )

    def _output(self, query: Shape) -> Shape:
        return (query[0], query[1] if self.output_dim is None else self.output_dim)

    def _specs(self, query: Shape, key: Shape, value: Shape) -> Sequence[ParamSpec]:
        """Return kernel and bias of each projection."""
        output = self._output(query)[1]
        shapes: list[tuple[str, Shape, Shape]] = [
            ("query", (query[1], self.num_heads, self.key_dim), (self.num_heads, self.key_dim)),
            ("key", (key[1], self.kv_heads, self.key_dim), (self.kv_heads, self.key_dim)),
            ("value", (value[1], self.kv_heads, self.values), (self.kv_heads, self.values)),
            ("attention_output", (self.num_heads, self.values, output), (output,)),
        ]
        specs = []
        for projection, kernel, bias in shapes:
            name = f"{self.name}/{projection}"
            specs.append(ParamSpec(f"{name}/kernel", kernel, initializer(self.kernel_initializer), self.trainable))
            if self.use_bias:
                specs.append(ParamSpec(f"{name}/bias", bias, initializer(self.bias_initializer), self.trainable))
        return specs

    def _multiply_adds(self, query: Shape, key: Shape, value: Shape) -> int:
        """Return those of the projections, and of scores and outputs for each pair of a query and a key."""
        projections = query[0] * self.num_heads * (query[1] * self.key_dim + self.values * self._output(query)[1])
        projections += key[0] * self.kv_heads * (key[1] * self.key_dim + value[1] * self.values)
        return projections + query[0] * key[0] * self.num_heads * (self.key_dim + self.values)

    def _project(self, params: Params, x: Array, ctx: Context, projection: str, inner: int) -> _Projection:
        """Multiply rows of `inner` numbers by the kernel of a projection."""
        return _Projection(params, x.reshape(-1, inner), ctx, f"{self.name}/{projection}", use_bias=self.use_bias)

    def _attend(self, params: Params, x: Sequence[Array], mask: Array | None, ctx: Context) -> _Pass:
        """Go forward: `x` are query, key and value."""
        n, length, heads = len(x[0]), x[0].shape[1], (self.num_heads, self.kv_heads, self.kv_heads)
        projections = [
            self._project(params, array, ctx, name, array.shape[-1])
            for name, array in zip(("query", "key", "value"), x, strict=True)
        ]
        q, k, v = (
            projection.y.reshape(n, array.shape[1], count, width)
            for projection, array, count, width in zip(
                projections, x, heads, (self.key_dim, self.key_dim, self.values), strict=True
            )
        )
        out, attention_backward = ctx.arithmetic.attention(ctx, self.name, q, k, v, mask, causal=self.causal)
        last = self._project(params, out, ctx, "attention_output", self.num_heads * self.values)
        return _Pass(last.y.reshape(n, length, last.y.shape[1]), [*projections, last], attention_backward)


class _Projection:
    """A product with the kernel of a projection, all axes of which but those of its inputs are one."""

    def __init__(self, params: Params, rows: Array, ctx: Context, name: str, *, use_bias: bool) -> None:
        self._kernel, self._bias = f"{name}/kernel", f"{name}/bias"
        kernel = params[self._kernel].reshape(rows.shape[1], -1)
        self._shape = kernel.shape
        bias = params[self._bias].reshape(-1) if use_bias else None
        self._backward: DenseBackward
        self.y, self._backward = ctx.arithmetic.dense(ctx, name, rows, kernel, bias, "linear")

    def backward(self, dy: Array, grads: Mapping[str, Any], *, need_dx: bool) -> Array | None:
        """Write the gradients, and return that of the rows."""
        kernel = _reshaped(grads.get(self._kernel), self._shape)
        bias = _reshaped(grads.get(self._bias), self._shape[1:])
        return self._backward(dy.reshape(self.y.shape), kernel, bias, need_dx=need_dx)


def _reshaped(grad: Grad, shape: Shape) -> Grad:
    if isinstance(grad, tuple):
        return tuple(each.reshape(shape) for each in grad)
    return None if grad is None else grad.reshape(shape)


class _Pass:
    """A pass forward, and the way back to query, key and value."""

    def __init__(self, y: Array, projections: Sequence[_Projection], attention_backward: AttentionBackward) -> None:
        self.y = y
        self._inputs, self._last = projections[:-1], projections[-1]
        self._attention_backward = attention_backward

    def backward(self, dy: Array, grads: Params, need_dx: Sequence[bool]) -> list[Array | None]:
        """Write the gradients, and return those of query, key and value as rows."""
        dout = self._last.backward(dy, grads, need_dx=True)
        assert dout is not None
        gradients = self._attention_backward(dout)
        return [
            projection.backward(gradient, grads, need_dx=needed)
            for projection, gradient, needed in zip(self._inputs, gradients, need_dx, strict=True)
        ]


@dataclass(frozen=True)
class MultiHeadAttention(_Attention):
    """Each position attends to all, or with `causal` to those up to itself; (n, length, features) keeps its length.

    For each head softmax(q k^T / sqrt(key_dim)) v, with q, k and v from products with the inputs; a last product makes
    the outputs of the values of all heads (Vaswani et al., 2017).
    """

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return ``(length, output_dim)``; by default the features stay as many as they are."""
        self._check_sequence(input_shape)
        return self._output(input_shape)

    def parameters(self, input_shape: Shape) -> Sequence[ParamSpec]:
        """Return kernel (features, heads, dim) and bias of query, key and value, and those of the output."""
        return self._specs(input_shape, input_shape, input_shape)

    def multiply_adds(self, input_shape: Shape) -> int:
        """Return those of the products."""
        return self._multiply_adds(input_shape, input_shape, input_shape)

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y (n, length, output_dim), in scratch."""
        attention = self._attend(params, (x, x, x), None, ctx)

        def backward(dy: Array, grads: Params, *, need_dx: bool = True) -> Array | None:
            gradients = attention.backward(dy, grads, (need_dx, need_dx, need_dx))
            return _sum(ctx, gradients).reshape(x.shape) if need_dx else None

        return attention.y, backward


@dataclass(frozen=True)
class CrossAttention(_Attention, MultiInput):
    """The positions of the first input attend to those of another.

    Its inputs: query, value and, if it is another, key; behind them may come a mask of shape (length of key,), as a
    `PaddingMask` makes it: where it is 0, nothing attends to. With a mask, a single sequence before it attends to
    itself.
    """

    def output_shape(self, input_shapes: Sequence[Shape]) -> Shape:  # type: ignore[override]
        """Return ``(length of query, output_dim)``."""
        (query, key, value), mask = self._roles(input_shapes)
        for shape in (query, key, value):
            self._check_sequence(shape)
        if key[0] != value[0]:
            raise ModelError(
                f"{self.title}: key and value must be of the same length, but their shapes are {key} and {value}"
            )
        if mask is not None and mask != key[:1]:
            raise ModelError(f"{self.title}: its mask must have shape {key[:1]}, the length of the key, but has {mask}")
        return self._output(query)

    def parameters(self, input_shapes: Sequence[Shape]) -> Sequence[ParamSpec]:  # type: ignore[override]
        """Return kernel (features, heads, dim) and bias of query, key and value, and those of the output."""
        return self._specs(*self._roles(input_shapes)[0])

    def multiply_adds(self, input_shapes: Sequence[Shape]) -> int:  # type: ignore[override]
        """Return those of the products."""
        return self._multiply_adds(*self._roles(input_shapes)[0])

    def _roles(self, shapes: Sequence[Shape]) -> tuple[tuple[Shape, Shape, Shape], Shape | None]:
        """Return the shapes of query, key and value, and of the mask."""
        masked = len(shapes) > 1 and len(shapes[-1]) == 1
        sequences = shapes[:-1] if masked else shapes
        if not 1 <= len(sequences) <= 3 or (len(sequences) == 1 and not masked):
            raise ModelError(
                f"{self.title} takes a query, a value and, if it is another, a key, each of shape (length, features), "
                f"and behind them a mask, if there is one; but its inputs have the shapes "
                f"{', '.join(map(str, shapes))}. For a sequence without a mask that attends to itself, use "
                "multi_head_attention."
            )
        query, key, value = (sequences[place] for place in _PLACES[len(sequences)])
        return (query, key, value), shapes[-1] if masked else None

    def forward(  # type: ignore[override]
        self, params: Params, x: Sequence[Array], ctx: Context
    ) -> tuple[Array, MultiBackward]:
        """Return y (n, length of query, output_dim), in scratch."""
        mask = x[-1] if x[-1].ndim == 2 else None
        sequences = list(x if mask is None else x[:-1])
        places = _PLACES[len(sequences)]
        attention = self._attend(params, [sequences[place] for place in places], mask, ctx)

        def backward(dy: Array, grads: Params, *, need_dx: Sequence[bool]) -> list[Array | None]:
            rows = attention.backward(dy, grads, [need_dx[place] for place in places])
            found: list[Array | None] = []
            for place, array in enumerate(sequences):
                shares = [gradient for role, gradient in zip(places, rows, strict=True) if role == place]
                found.append(_sum(ctx, shares).reshape(array.shape) if need_dx[place] else None)
            if mask is not None:
                found.append(ctx.arithmetic.zeros(ctx, self.name, mask) if need_dx[-1] else None)
            return found

        return attention.y, backward


_PLACES = {1: (0, 0, 0), 2: (0, 1, 1), 3: (0, 2, 1)}
"""Which of so many sequences are query, key and value."""


def _sum(ctx: Context, gradients: Sequence[Array | None]) -> Array:
    """Add gradients, into the first."""
    first, *others = (gradient for gradient in gradients if gradient is not None)
    for other in others:
        ctx.arithmetic.add(first, other, first)
    return first

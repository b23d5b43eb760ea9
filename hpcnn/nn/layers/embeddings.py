"""Layers that make vectors of numbers and places: embeddings, embeddings of positions, and masks of padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpcnn.errors import ModelError
from hpcnn.nn.context import Context
from hpcnn.nn.initializers import initializer
from hpcnn.nn.layer import Backward, Layer, Params, Shape, without_parameters
from hpcnn.nn.params import ParamSpec
from hpcnn.nn.sines import position_sines
from hpcnn.nn.workspace import Array

MOST_IDS = 2**24
"""float32, which ids are converted to with all other inputs, has no whole number of its own for each id above."""
ENCODINGS = ("learned", "sinusoidal")


@dataclass(frozen=True)
class Embedding(Layer):
    """y = embeddings[x]: a learned vector for each id, a whole number from 0 on; (n, ...) -> (n, ..., output_dim)."""

    input_dim: int
    output_dim: int
    embeddings_initializer: str = "random_uniform"
    trainable: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.input_dim <= MOST_IDS:
            raise ModelError(
                f"{self.title}: input_dim must be 1 to {MOST_IDS}, up to which float32 holds each whole number, but is "
                f"{self.input_dim}"
            )
        if self.output_dim < 1:
            raise ModelError(f"{self.title}: output_dim must be at least 1, but is {self.output_dim}")
        initializer(self.embeddings_initializer)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return ``(..., output_dim)``."""
        return (*input_shape, self.output_dim)

    def parameters(self, input_shape: Shape) -> Sequence[ParamSpec]:
        """Return the embeddings (input_dim, output_dim)."""
        start = initializer(self.embeddings_initializer)
        return [ParamSpec(f"{self.name}/embeddings", (self.input_dim, self.output_dim), start, self.trainable)]

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y (n, ..., output_dim), in scratch.

        Raises:
            DataError: an id is no whole number in [0, input_dim). In a pass that the compiled core has recorded, its
                row becomes NaN.
        """
        table = f"{self.name}/embeddings"
        y, table_backward = ctx.arithmetic.embedding(ctx, self.name, x.reshape(-1), params[table], self.title)

        def backward(dy: Array, grads: Params, *, need_dx: bool = True) -> Array | None:
            if table in grads:
                table_backward(dy.reshape(y.shape), grads[table])
            return ctx.arithmetic.zeros(ctx, self.name, x) if need_dx else None

        return y.reshape(*x.shape, self.output_dim), backward


@dataclass(frozen=True)
class PositionalEmbedding(Layer):
    """y = x + a vector for each position of (n, length, features): learned, or of sines.

    Source of the sines: Vaswani et al., 2017, section 3.5.
    """

    encoding: str = "learned"
    embeddings_initializer: str = "random_uniform"
    trainable: bool = True

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS:
            raise ModelError(f"{self.title}: encoding must be {' or '.join(ENCODINGS)}, but is {self.encoding!r}")
        initializer(self.embeddings_initializer)

    def ending(self, before: str | None) -> str | None:
        """Return "linear": it ends in a sum."""
        return "linear"

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return `input_shape`, which must be (length, features)."""
        if len(input_shape) != 2:
            raise ModelError(
                f"{self.title} needs inputs of shape (length, features), but got {input_shape}. Put an embedding or a "
                "dense layer before it, or a reshape layer."
            )
        return input_shape

    def parameters(self, input_shape: Shape) -> Sequence[ParamSpec]:
        """Return the embeddings (length, features), where they are learned."""
        if self.encoding != "learned":
            return []
        return [
            ParamSpec(f"{self.name}/embeddings", input_shape, initializer(self.embeddings_initializer), self.trainable)
        ]

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y, of x's shape, in scratch."""
        name = f"{self.name}/embeddings"
        learned = self.encoding == "learned"
        table = params[name] if learned else position_sines(x.shape[1], x.shape[2], x.dtype.char)
        y, table_backward = ctx.arithmetic.add_table(ctx, self.name, x, table)

        def backward(dy: Array, grads: Params, *, need_dx: bool = True) -> Array | None:
            if learned and name in grads:
                table_backward(dy, grads[name])
            return dy if need_dx else None

        return y, backward


@dataclass(frozen=True)
class PaddingMask(Layer):
    """y = 1 where the id is not 0, else 0: the last input of an attention, which leaves padding out."""

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return `input_shape`, which must be (length,)."""
        if len(input_shape) != 1:
            raise ModelError(
                f"{self.title} needs ids of shape (length,), but got {input_shape}. Let it follow the ids themselves, "
                "not their embedding."
            )
        return input_shape

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y, of x's shape, in scratch."""
        y = ctx.arithmetic.not_zero(ctx, self.name, x)
        return y, without_parameters(lambda dy: ctx.arithmetic.zeros(ctx, self.name, x))

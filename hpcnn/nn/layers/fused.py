"""Layers that a network computes together with the relu behind them, in one pass over memory. The bits stay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

from hpcnn.nn.context import Context
from hpcnn.nn.layer import Backward, Layer, Params, without_parameters
from hpcnn.nn.layers.batch_normalization import BatchNormalization
from hpcnn.nn.layers.convolution import Conv1D, Conv2D, Conv3D
from hpcnn.nn.layers.dense import Activation, Dense
from hpcnn.nn.layers.merging import Add, Split
from hpcnn.nn.workspace import Array


@dataclass(frozen=True)
class BatchNormalizationRelu(BatchNormalization):
    """Relu of a batch normalisation."""

    relu: ClassVar[bool] = True


@dataclass(frozen=True)
class AddRelu(Add):
    """Relu of a sum of two."""

    def _merge(self, x: Sequence[Array], ctx: Context) -> tuple[Array, Split]:
        y, pull = ctx.arithmetic.add_relu(ctx, self.name, x[0], x[1], self._scratch(ctx, "y", x[0]))

        def split(dy: Array, need_dx: Sequence[bool]) -> list[Array | None]:
            first, second = need_dx
            other = self._scratch(ctx, "dx1", dy) if first and second else None
            dx = pull(dy, other)
            return [dx if first else None, other if first else dx]

        return y, split


@dataclass(frozen=True)
class Passed(Layer):
    """What is left of the relu."""

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return x."""
        return x, without_parameters(lambda dy: dy)


def _as(kind: type[Layer]) -> Callable[[Any], Layer]:
    return lambda layer: kind(**{field.name: getattr(layer, field.name) for field in fields(layer)})


def _activated(layer: Any) -> Layer:
    with_relu: Layer = replace(layer, activation="relu") if layer.activation == "linear" else layer
    return with_relu


WITH_RELU: dict[type[Layer], Callable[[Any], Layer]] = {
    BatchNormalization: _as(BatchNormalizationRelu),
    Add: _as(AddRelu),
    **dict.fromkeys((Dense, Conv1D, Conv2D, Conv3D), _activated),
}


def fused(layers: Sequence[Layer], sources: Sequence[Sequence[int]]) -> list[Layer]:
    """Return the layers of a graph as passes call them: a relu is part of the layer before it, if only it takes that.

    Args:
        layers: in the order in which they are computed.
        sources: the places of the inputs of each; -1 is the input.
    """
    found = list(layers)
    uses = Counter(source for each in sources for source in each)
    for place, layer in enumerate(layers):
        before = sources[place][0]
        if type(layer) is not Activation or layer.activation != "relu" or before < 0 or uses[before] > 1:
            continue
        with_relu = WITH_RELU.get(type(layers[before]))
        if with_relu is None or len(sources[before]) > 2:
            continue
        together = with_relu(layers[before])
        if together is not layers[before]:
            found[before], found[place] = together, Passed(name=layer.name)
    return found

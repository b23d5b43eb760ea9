"""Networks with several inputs and outputs: where each lies in a row of numbers, and the activation behind it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcnn.errors import ModelError, nearest
from hpcnn.nn.activations import activation
from hpcnn.nn.context import Context
from hpcnn.nn.graph import OUTPUTS
from hpcnn.nn.layer import Layer, Shape
from hpcnn.nn.layers.dense import Activation
from hpcnn.nn.layers.parts import part_of
from hpcnn.nn.workspace import Array

OWNER = ("outputs",)
"""Owner of scratch, together with the name of an output; no layer can have such a name."""


@dataclass(frozen=True)
class Output:
    """One of several outputs of a network."""

    name: str
    """That of the layer."""
    shape: Shape
    """Of one sample."""
    start: int
    """Where in the row of all outputs it begins."""
    head: str = "linear"
    """The activation behind the layer, which stands apart: a loss can work on the logits."""
    ending: str | None = None
    """The last activation, be it the head or within the layers; None if it is not known."""

    @property
    def size(self) -> int:
        """The entries of a sample."""
        return math.prod(self.shape)

    @property
    def stop(self) -> int:
        """Where in the row it ends."""
        return self.start + self.size

    def of(self, rows: Array) -> Array:
        """Return this output, (n, *shape), as a view of rows of all outputs, or as a copy."""
        return rows[:, self.start : self.stop].reshape(len(rows), *self.shape)


def check_inputs(inputs: Mapping[str, Sequence[int]], input_shape: Sequence[int] | None) -> Shape:
    """Return the length of a row of all inputs.

    Raises:
        ModelError: a row of samples has another length, or there is no input.
    """
    total = sum(math.prod(shape) for shape in inputs.values())
    if input_shape is not None and math.prod(input_shape) != total:
        sizes = " + ".join(str(math.prod(shape)) for shape in inputs.values())
        raise ModelError(
            f"the inputs {', '.join(map(repr, inputs))} take {sizes} = {total} numbers of a sample, but one of the "
            f"data has {math.prod(input_shape)} (shape {tuple(input_shape)}). Their sizes must add up."
        )
    return (total,)


def check_names(layers: Sequence[str], inputs: Sequence[str], outputs: Sequence[str], top: Sequence[str]) -> None:
    """Raise ModelError if names of inputs and layers collide, or an output is none of the `top` layers."""
    for name in inputs:
        if name in layers:
            raise ModelError(f"{name!r} is the name of an input and of a layer: rename one of them")
    for name in outputs:
        if name not in top:
            raise ModelError(
                f"the output {name!r} is no layer of the network.{nearest(name, top)} Name layers that are in no "
                f"other: {', '.join(top)}."
            )
        if outputs.count(name) > 1:
            raise ModelError(f"the output {name!r} is named twice: name each once")
    if outputs and OUTPUTS in (*layers, *inputs):
        raise ModelError(f"{OUTPUTS!r} can't be the name of a layer where a network has several outputs: rename it")


def split_heads(layers: Sequence[Layer], outputs: Sequence[str], taken: set[str]) -> tuple[list[Layer], dict[str, str]]:
    """Take the activations off the layers that are outputs, unless others take what they return.

    Args:
        layers: all of them, named.
        outputs: names of layers.
        taken: those of layers whose outputs other layers take.

    Returns:
        The layers, and the activation of each output.
    """
    found, heads = list(layers), dict.fromkeys(outputs, "linear")
    for place, layer in enumerate(layers):
        if layer.name in heads and layer.name not in taken and not layer.children:
            left, heads[layer.name] = layer.split_activation()
            if left is None:
                left = Activation("linear", name=layer.name, inputs=layer.inputs)
            found[place] = left
            activation(heads[layer.name])  # a name that it knows
    return found, heads


def taken_names(layers: Sequence[Layer]) -> Iterator[str]:
    """Yield the names of layers whose outputs other layers take, by name or since they come next."""
    for place, layer in enumerate(layers):
        if place and not layer.inputs:
            yield layers[place - 1].name
        yield from layer.inputs
        yield from (name for child in layer.children for name in _named_by(child))


def _named_by(layer: Layer) -> Iterator[str]:
    yield from layer.inputs
    for child in layer.children:
        yield from _named_by(child)


def by_name(outputs: Sequence[Output], rows: Array) -> Any:
    """Return rows of all outputs as a dict of arrays (n, *shape); where none has a name, as they are."""
    return {output.name: output.of(rows) for output in outputs} if outputs else rows


def heads_forward(outputs: Sequence[Output], logits: Array, ctx: Context) -> Array:
    """Return rows of all outputs, in scratch: each part of the logits behind its own activation."""
    row = ctx.scratch(OWNER, "row", logits.shape, logits.dtype)
    np.copyto(row, logits)
    for output in outputs:
        if output.head != "linear":
            owner = (*OWNER, output.name)
            part = part_of(ctx, owner, "part", logits, output.start, (len(logits), *output.shape))
            y = ctx.arithmetic.activation(ctx, owner, output.head, part)[0]
            ctx.arithmetic.put(y.reshape(len(y), output.size), 1, output.start, row)
    return row

"""Layers that hold others, which a network opens, and those that share the parameters of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from hpcnn.errors import ModelError
from hpcnn.nn.context import Context
from hpcnn.nn.layer import Backward, Layer, Params, Shape
from hpcnn.nn.workspace import Array


@dataclass(frozen=True)
class Opened(Layer):
    """Base of what a network replaces by other layers when it is built: it has no pass of its own."""

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Refuse: only networks know what becomes of it."""
        raise ModelError(f"{self.title} has no pass of its own: put it into a Network")


@dataclass(frozen=True)
class Block(Opened):
    """Layers in a row, `repeat` times, each time with parameters of their own.

    The named layers of a repetition have its number behind their names. ``inputs`` within it may name its own layers.
    """

    layers: tuple[Layer, ...]
    repeat: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.layers:
            raise ModelError(f"{self.title} holds no layers: give it at least one")
        if self.repeat < 1:
            raise ModelError(f"{self.title}: repeat must be at least 1, but is {self.repeat}")

    @property
    def children(self) -> tuple[Layer, ...]:
        """The inner layers."""
        return self.layers

    def with_children(self, children: Sequence[Layer]) -> Self:
        """Return the same block around other layers."""
        return replace(self, layers=tuple(children))

    def split_activation(self) -> tuple[Layer | None, str]:
        """Return the block without the activation of its last layer, and that."""
        layers, name = without_last_activation(self.layers)
        return (replace(self, layers=tuple(layers)) if layers else None), name

    def repetition(self, number: int, layers: Sequence[Layer]) -> Self:
        """Return the block as it is for the time of that number: around `layers`, renamed, and once."""
        own = set(_names(layers))

        def numbered(name: str) -> str:
            return f"{name}_{number}" if name in own else name

        def renamed(layer: Layer) -> Layer:
            if layer.children:
                layer = layer.with_children([renamed(child) for child in layer.children])
            if layer.name:
                layer = layer.named(numbered(layer.name))
            return layer.taking(map(numbered, layer.inputs)) if layer.inputs else layer

        block = replace(self, layers=tuple(map(renamed, layers)), repeat=1)
        return block.named(f"{block.name}_{number}") if block.name else block


@dataclass(frozen=True)
class Residual(Block):
    """y = x + layers(x) (He et al., 2016)."""

    def split_activation(self) -> tuple[Layer | None, str]:
        """Return the block, which ends in a sum."""
        return self, "linear"

    def check_shapes(self, before: Shape, after: Shape) -> None:
        """Check that what the inner layers make of the input can be added to it.

        Raises:
            ModelError: it can't.
        """
        if after != before:
            raise ModelError(
                f"{self.title} adds its input of shape {before} to what its inner layers make of it, but "
                f"they make {after}. Let its last layer, {self.layers[-1].name!r}, return the shape {before}."
            )


@dataclass(frozen=True)
class Shared(Opened):
    """The layer of the name `layer`, with the same parameters, at another place of the network."""

    layer: str

    def __post_init__(self) -> None:
        if not self.layer:
            raise ModelError(f"{self.title} shares the parameters of a layer: give that one's name as `layer`")


def without_last_activation(layers: Sequence[Layer]) -> tuple[Sequence[Layer], str]:
    """Return the layers without the activation of the last one, and that; none are left of an activation layer alone.

    An activation layer that takes another output than that of the layer before it stays.
    """
    last, name = layers[-1].split_activation()
    if last is not None:
        return (*layers[:-1], last), name
    before = layers[-2].name if len(layers) > 1 else ""
    if layers[-1].inputs and layers[-1].inputs != (before,):
        return layers, "linear"
    return layers[:-1], name


def _names(layers: Sequence[Layer]) -> list[str]:
    return [name for layer in layers for name in (layer.name, *_names(layer.children)) if name]

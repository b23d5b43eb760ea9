"""Layers whose passes somebody is told of: what a timeline by layer is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from hpcnn.nn.context import Array, Context
from hpcnn.nn.layer import Backward, Layer, Params
from hpcnn.nn.layers import Residual

Tell = Callable[[], None]


class Observer(Protocol):
    """Is told of what a network does, layer by layer; within residual blocks, too."""

    def passes(self, layer: str) -> tuple[Tell, Tell]:
        """Return what to call where the layer of that name begins its pass, forward or back, and where it ends."""
        ...


@dataclass(frozen=True)
class Observed(Layer):
    """A layer that does what another does, and tells of it."""

    layer: Layer
    begin: Tell
    end: Tell

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return what the layer returns."""
        begin, end = self.begin, self.end
        begin()
        y, layer_backward = self.layer.forward(params, x, ctx)
        end()

        def backward(dy: Array, grads: Params, *, need_dx: bool = True) -> Array | None:
            begin()
            dx = layer_backward(dy, grads, need_dx=need_dx)
            end()
            return dx

        return y, backward


def observed(layer: Layer, observer: Observer) -> Observed:
    """Return `layer` as one that tells `observer` of its passes, and of those of the layers that it holds."""
    if isinstance(layer, Residual):
        layer = replace(layer, layers=tuple(observed(each, observer) for each in layer.layers))
    return Observed(layer.name, layer, *observer.passes(layer.name))

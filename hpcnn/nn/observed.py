"""Layers that report their passes: for a timeline by layer, and to find where a value stops being finite."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hpcnn.nn.context import Context
from hpcnn.nn.layer import Backward, BatchBackward, BatchLayer, Layer, Params, Resume
from hpcnn.nn.workspace import Array

Tell = Callable[[], None]


class Observer(Protocol):
    """Is told of what a network does, layer by layer; within containers, too."""

    def passes(self, layer: str) -> tuple[Tell, Tell]:
        """Return what to call where the layer of that name begins its pass, forward or back, and where it ends."""


@dataclass(frozen=True)
class Observed(Layer):
    """A layer that does what another does, and reports the begin and end of its passes."""

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


@dataclass(frozen=True)
class ObservedBatch(BatchLayer):
    """The same for a layer that needs sums over the whole batch; waiting for them is part of its pass."""

    layer: BatchLayer
    enter: Tell
    leave: Tell

    @property
    def synchronized(self) -> bool:
        """See `BatchLayer`."""
        return self.layer.synchronized

    def collects(self, ctx: Context) -> bool:
        """See `BatchLayer`."""
        return self.layer.collects(ctx)

    def new_state(self, params: Params, sums: Array, totals: Array) -> Mapping[str, Array]:
        """See `BatchLayer`."""
        return self.layer.new_state(params, sums, totals)

    def forward_alone(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return what the layer returns."""
        return Observed(self.layer, self.enter, self.leave).forward(params, x, ctx)

    def begin(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Resume]:
        """Begin the pass, which ends where it is resumed."""
        self.enter()
        sums, resume = self.layer.begin(params, x, ctx)

        def to_the_end(totals: Array) -> tuple[Array, BatchBackward]:
            y, backward = resume(totals)
            self.leave()
            return y, _ObservedBackward(backward, self.enter, self.leave)

        return sums, to_the_end


@dataclass(frozen=True)
class _ObservedBackward:
    backward: BatchBackward
    enter: Tell
    leave: Tell

    def begin(
        self, dy: Array, grads: Params, *, need_dx: bool = True
    ) -> tuple[Array | None, Callable[[Array | None], Array | None]]:
        self.enter()
        sums, resume = self.backward.begin(dy, grads, need_dx=need_dx)

        def to_the_end(totals: Array | None) -> Array | None:
            dx = resume(totals)
            self.leave()
            return dx

        return sums, to_the_end


@dataclass(frozen=True)
class Checked(Layer):
    """A layer that does what another does, and adds its name to `found` if an output is not finite."""

    layer: Layer
    found: list[str]

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return what the layer returns."""
        y, backward = self.layer.forward(params, x, ctx)
        if not np.isfinite(y).all():
            self.found.append(self.layer.name)
        return y, backward


def wrapped(layer: Layer, wrap: Callable[[Layer], Layer]) -> Layer:
    """Return what `wrap` makes of a layer, within which it is put around each of the layer's children, too."""
    children = [wrapped(child, wrap) for child in layer.children]
    return wrap(layer.with_children(children) if children else layer)


def observed(layer: Layer, observer: Observer) -> Layer:
    """Return `layer` as one that tells `observer` of its passes, and of those of the layers that it holds."""

    def watched(each: Layer) -> Layer:
        kind = ObservedBatch if isinstance(each, BatchLayer) else Observed
        return kind(each, *observer.passes(each.name), name=each.name)  # type: ignore[arg-type]

    return wrapped(layer, watched)

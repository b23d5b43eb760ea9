"""A network: layers in a row, checked once, with one forward and one backward pass over all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from hpcnn.errors import ModelError
from hpcnn.nn.activations import activation
from hpcnn.nn.context import Context
from hpcnn.nn.layer import Backward, Layer, Params, Shape
from hpcnn.nn.observed import Checked, Observer, observed, wrapped
from hpcnn.nn.params import ParamLayout, ParamSpec
from hpcnn.nn.workspace import Array
from hpcnn.system.memory import ALIGNMENT

Ready = Callable[[int], None]
"""``start -> None``: told, layer by layer, that all entries of the gradient vector from `start` on are written."""


class NetworkBackward(Protocol):
    """The way back through the whole network."""

    def __call__(self, dlogits: Array, grads: Params, ready: Ready | None = None) -> None:
        """Write every trainable parameter's gradient; dlogits may be overwritten."""


class Network:
    """Layers in a row. The last activation, `head`, stands apart, so that a loss can work on the logits.

    Layers without a name are numbered by kind, those within containers, too: ``dense_1``, ``dense_2``.

    Args:
        layers: first to last; their names, and those within containers, must differ.
        input_shape: shape of one sample.
        head: an activation behind the layers; if linear, that of the last layer takes its place.

    Raises:
        ModelError: a layer can't take what the one before returns, two layers share a name, or the head is unknown.

    >>> from hpcnn.nn import Dense
    >>> network = Network([Dense(16, activation="relu"), Dense(3, activation="softmax")], (4,))
    >>> network.output_shape, network.layout.size, network.layer_names, network.head
    ((3,), 131, ['dense_1', 'dense_2'], 'softmax')
    """

    def __init__(self, layers: Sequence[Layer], input_shape: Sequence[int], head: str = "linear") -> None:
        if not layers:
            raise ModelError("a network needs at least one layer, but got none")
        if head == "linear":
            layers, head = _split_head(layers)
        self.layers = tuple(_numbered(layers, Counter()))
        _check_names(self.layers)
        self._passed: tuple[Layer, ...] = self.layers
        self.input_shape: Shape = tuple(input_shape)
        self.head = head
        activation(head)  # a name that it knows
        self._lowest_trainable = len(self.layers)
        specs: list[ParamSpec] = []
        firsts: list[str | None] = []
        shape = self.input_shape
        for place, layer in enumerate(self.layers):
            output_shape = layer.output_shape(shape)
            own = layer.parameters(shape)
            if any(spec.trainable for spec in own):
                self._lowest_trainable = min(self._lowest_trainable, place)
            specs += own
            firsts.append(next((spec.name for spec in own if spec.trainable), None))
            shape = output_shape
        self.output_shape = shape
        self.layout = ParamLayout(specs)
        self.state = tuple(spec for spec in specs if spec.state)
        self._starts = [None if name is None else self.layout.offsets[name] for name in firsts]

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, NetworkBackward]:
        """Return the logits (n, *output_shape) for `x` (n, *input_shape), and the pass back. Both are in scratch.

        A network that diverges overflows: call it within ``np.errstate`` where that is found by looking at the loss.
        """
        x = self._fit(params, x, ctx)
        backwards: list[Backward] = []
        for layer in self._passed:
            x, layer_backward = layer.forward(params, x, ctx)
            backwards.append(layer_backward)

        def backward(dlogits: Array, grads: Params, ready: Ready | None = None) -> None:
            lowest = self._lowest_trainable
            dy: Array | None = dlogits
            for place in range(len(backwards) - 1, lowest - 1, -1):
                assert dy is not None, f"layer {self.layers[place + 1].name!r} returned no dx"
                dy = backwards[place](dy, grads, need_dx=place > lowest)
                start = self._starts[place]
                if ready is not None and start is not None:
                    ready(start)

        return x, backward

    def __repr__(self) -> str:
        head = "" if self.head == "linear" else f", head={self.head!r}"
        return f"Network({self.input_shape} -> {self.output_shape}, {', '.join(self.layer_names)}{head})"

    def observe(self, observer: Observer | None) -> None:
        """Tell `observer` of each layer's passes from now on; None: nobody, which costs nothing."""
        self._passed = self.layers if observer is None else tuple(observed(layer, observer) for layer in self.layers)

    @property
    def observed(self) -> bool:
        """Whether an observer is told of each layer's passes."""
        return self._passed is not self.layers

    @property
    def recordable(self) -> bool:
        """Whether all layers compute by the context's arithmetic alone: hpcnn's own do."""
        return all(layer.recordable for layer in _each(self.layers))

    @property
    def layer_names(self) -> list[str]:
        """The names of all layers, with those within containers."""
        return [layer.name for layer in _each(self.layers)]

    @property
    def ending(self) -> str | None:
        """The last activation, be it the head or within the layers; None where a layer of one's own comes last."""
        if self.head != "linear":
            return self.head
        ending: str | None = "linear"
        for layer in self.layers:
            ending = layer.ending(ending)
        return ending

    def head_forward(self, logits: Array, ctx: Context) -> Array:
        """Return the outputs that people see, shape (n, *output_shape): in scratch, or the logits for a linear head."""
        if self.head == "linear":
            return logits
        return ctx.arithmetic.activation(ctx, ("network", "head"), self.head, logits)[0]

    def first_not_finite(self, params: Params, x: Array, ctx: Context) -> str | None:
        """Return the name of the first layer with an output that is not finite, or None.

        Repeats the context's last pass in training mode, with the same random key; for error messages, so it may
        allocate.
        """
        found: list[str] = []
        ctx.begin(training=True, random_key=ctx.random_key, new_state=ctx.new_state)
        x = self._fit(params, x, ctx)
        with np.errstate(all="ignore"):
            for layer in self.layers:
                x, _ = wrapped(layer, lambda each: Checked(each, found, name=each.name)).forward(params, x, ctx)
                if found:
                    return found[0]
        return None

    def _fit(self, params: Params, x: Array, ctx: Context) -> Array:
        """Return x in the network's input shape, the parameters' type and one order and alignment in memory.

        The bits of a product may depend on the layout of its factors, and what a rank is given to slice may not matter.
        """
        if x.shape[1:] != self.input_shape:
            if not same_sample_shape(x.shape[1:], self.input_shape):
                raise ModelError(f"the network takes samples of shape {self.input_shape}, but got {x.shape[1:]}")
            x = x.reshape(len(x), *self.input_shape)
        dtype = next((array.dtype for array in params.values()), x.dtype)
        if x.dtype != dtype or not x.flags.c_contiguous or x.__array_interface__["data"][0] % ALIGNMENT:
            converted = ctx.scratch(("network", "input"), "x", x.shape, dtype)
            np.copyto(converted, x, casting="unsafe")
            return converted
        return x


def same_sample_shape(first: Sequence[int], second: Sequence[int]) -> bool:
    """Return whether two shapes are equal up to axes of length 1.

    >>> same_sample_shape((28, 28), (28, 28, 1)), same_sample_shape((28, 28), (784,))
    (True, False)
    """
    return [n for n in first if n != 1] == [n for n in second if n != 1]


def _check_names(layers: Sequence[Layer]) -> None:
    names = [layer.name for layer in _each(layers)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ModelError(
            f"layer names must differ, but these appear twice: {', '.join(map(repr, twice))}. "
            "Rename all but one of each."
        )


def _each(layers: Sequence[Layer]) -> Iterator[Layer]:
    """Yield all layers, those within containers too."""
    for layer in layers:
        yield layer
        yield from _each(layer.children)


def _split_head(layers: Sequence[Layer]) -> tuple[Sequence[Layer], str]:
    """Take the activation off the last layer: an activation layer goes, if others are left, a dense one is linear."""
    last, head = layers[-1].split_activation()
    if last is None:
        return (layers[:-1], head) if len(layers) > 1 else (layers, "linear")
    return [*layers[:-1], last], head


def _numbered(layers: Sequence[Layer], counts: Counter[str]) -> Iterator[Layer]:
    """Give each layer without a name its kind and number. All layers count, those within containers, too."""
    for layer in layers:
        counts[layer.kind] += 1
        named = layer if layer.name else layer.named(f"{layer.kind}_{counts[layer.kind]}")
        children = tuple(_numbered(layer.children, counts))
        yield named if children == layer.children else named.with_children(children)

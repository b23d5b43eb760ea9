"""A network: layers in a row, checked once, with one forward and one backward pass over all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from hpcnn.errors import ModelError
from hpcnn.nn.activations import activation
from hpcnn.nn.context import Array, Context
from hpcnn.nn.layer import Backward, Layer, Params, Shape
from hpcnn.nn.layers import Activation, Dense, Dropout, Flatten, Reshape, Residual
from hpcnn.nn.normalization import LayerNorm
from hpcnn.nn.observed import Observer, observed
from hpcnn.nn.params import ParamLayout, ParamSpec
from hpcnn.system.memory import ALIGNMENT

Written = Callable[[int], None]
"""``start -> None``: told, layer by layer, that all entries of the gradient vector from `start` on are written."""


class NetworkBackward(Protocol):
    """The way back through the whole network."""

    def __call__(self, dlogits: Array, grads: Params, written: Written | None = None) -> None:
        """Write every trainable parameter's gradient; dlogits may be overwritten."""
        ...


class Network:
    """Layers in a row. The last activation, `head`, stands apart, so that a loss can work on the logits.

    Args:
        layers: first to last; their names, and those within residual blocks, must differ.
        input_shape: shape of one sample.
        head: name of the activation that turns logits into outputs.

    Raises:
        ModelError: a layer can't take what the one before returns, two layers share a name, or the head is unknown.

    >>> from hpcnn.nn import Dense
    >>> network = Network([Dense("hidden", 16, activation="relu"), Dense("out", 3)], (4,), head="softmax")
    >>> network.output_shape, network.layout.size
    ((3,), 131)
    """

    def __init__(self, layers: Sequence[Layer], input_shape: Sequence[int], head: str = "linear") -> None:
        if not layers:
            raise ModelError("a network needs at least one layer, but got none")
        _check_names(layers)
        self.layers = tuple(layers)
        self._passed: tuple[Layer, ...] = self.layers
        self.input_shape: Shape = tuple(input_shape)
        self.head = head
        self._head = activation(head)
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
        self._starts = [None if name is None else self.layout.offsets[name] for name in firsts]

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, NetworkBackward]:
        """Return the logits (n, *output_shape) for `x` (n, *input_shape), and the pass back. Both lie in scratch."""
        x = self._fit(params, x, ctx)
        backwards: list[Backward] = []
        # A run that diverges overflows. That is found by looking at the loss, not by a warning on each rank.
        with np.errstate(all="ignore"):
            for layer in self._passed:
                x, layer_backward = layer.forward(params, x, ctx)
                backwards.append(layer_backward)

        def backward(dlogits: Array, grads: Params, written: Written | None = None) -> None:
            lowest = self._lowest_trainable
            dy: Array | None = dlogits
            with np.errstate(all="ignore"):
                for place in range(len(backwards) - 1, lowest - 1, -1):
                    assert dy is not None, f"layer {self.layers[place + 1].name!r} returned no dx"
                    dy = backwards[place](dy, grads, need_dx=place > lowest)
                    start = self._starts[place]
                    if written is not None and start is not None:
                        written(start)

        return x, backward

    def observe(self, observer: Observer | None) -> None:
        """Tell `observer` of each layer's passes from now on; None: nobody, which costs nothing."""
        self._passed = self.layers if observer is None else tuple(observed(layer, observer) for layer in self.layers)

    @property
    def layer_names(self) -> list[str]:
        """The names of all layers, with those within residual blocks."""
        return list(_names(self.layers))

    @property
    def ending(self) -> str | None:
        """The last activation, be it the head or within the layers; None where a layer of one's own comes last."""
        if self.head != "linear":
            return self.head
        for layer in reversed(self.layers):
            if type(layer) in (Dense, Activation):
                assert isinstance(layer, Dense | Activation)
                return layer.activation
            if type(layer) not in (Flatten, Reshape, Dropout):
                return "linear" if type(layer) in (LayerNorm, Residual) else None
        return "linear"

    def head_forward(self, logits: Array, ctx: Context) -> Array:
        """Return the outputs that people see, shape (n, *output_shape): in scratch, or the logits for a linear head."""
        if self.head == "linear":
            return logits
        outputs = ctx.scratch(("network", "head"), "outputs", logits.shape, logits.dtype)
        np.copyto(outputs, logits)
        with np.errstate(all="ignore"):
            return self._head(outputs, ctx, ("network", "head"))[0]

    def first_not_finite(self, params: Params, x: Array, ctx: Context) -> str | None:
        """Return the name of the first layer with an output that is not finite, or None.

        Repeats the context's last pass in training mode, with the same random key; for error messages, so it may
        allocate.
        """
        ctx.begin(training=True, random_key=ctx.random_key)
        with np.errstate(all="ignore"):
            return _first_not_finite(self.layers, params, self._fit(params, x, ctx), ctx)[0]

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
    names = list(_names(layers))
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ModelError(
            f"layer names must differ, but these appear twice: {', '.join(map(repr, twice))}. "
            "Rename all but one of each."
        )


def _names(layers: Sequence[Layer]) -> Iterator[str]:
    for layer in layers:
        yield layer.name
        if isinstance(layer, Residual):
            yield from _names(layer.layers)


def _first_not_finite(layers: Sequence[Layer], params: Params, x: Array, ctx: Context) -> tuple[str | None, Array]:
    """Return the name of the first layer with an output that is not finite, or None and the last output."""
    for layer in layers:
        if isinstance(layer, Residual):
            name, inner = _first_not_finite(layer.layers, params, x, ctx)
            if name is not None:
                return name, inner
            x = x + inner
        else:
            x, _ = layer.forward(params, x, ctx)
        if not np.isfinite(x).all():
            return layer.name, x
    return None, x

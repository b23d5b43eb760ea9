"""A network: layers in a graph, checked once, with one forward and one backward pass over all of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from hpcnn.errors import ModelError
from hpcnn.nn.activations import activation
from hpcnn.nn.context import Context
from hpcnn.nn.graph import check_count, nodes_of, unrolled
from hpcnn.nn.layer import BatchLayer, Layer, Params, Shape
from hpcnn.nn.layers.blocks import without_last_activation
from hpcnn.nn.layers.fused import fused
from hpcnn.nn.observed import Checked, Observer, observed, wrapped
from hpcnn.nn.outputs import Output, check_inputs, check_names, heads_forward, split_heads, taken_names
from hpcnn.nn.params import ParamLayout
from hpcnn.nn.passes import OWNER, NetworkPass, Steps, as_whole_batch
from hpcnn.nn.workspace import Array
from hpcnn.system.memory import ALIGNMENT


class Network:
    """Layers in a graph, checked once. The last activation, `head`, stands apart: a loss can work on the logits.

    Each layer takes what the one before it returns, or what those return that its `inputs` name. Layers without a name
    are numbered by kind, those within containers, too: ``dense_1``, ``dense_2``.

    Args:
        layers: first to last; their names, and those within containers, must differ.
        input_shape: shape of one sample; may be left out where `inputs` are given.
        head: an activation behind the layers; if linear, that of the last layer takes its place.
        inputs: shapes by the names by which layers take them. A sample is then a row with one after the other.
        outputs: names of the layers whose outputs the network returns, as a row with one after the other; left out:
            the last layer. Each has a head of its own.

    Raises:
        ModelError: a layer can't take what others return, two layers share a name, or the head is unknown.

    >>> from hpcnn.nn import Dense
    >>> network = Network([Dense(16, activation="relu"), Dense(3, activation="softmax")], (4,))
    >>> network.output_shape, network.layout.size, network.layer_names, network.head
    ((3,), 131, ['dense_1', 'dense_2'], 'softmax')
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        input_shape: Sequence[int] | None = None,
        head: str = "linear",
        *,
        inputs: Mapping[str, Sequence[int]] | None = None,
        outputs: Sequence[str] = (),
    ) -> None:
        if not layers:
            raise ModelError("a network needs at least one layer, but got none")
        self.inputs: Mapping[str, Shape] = {name: tuple(shape) for name, shape in (inputs or {}).items()}
        """The shapes of named inputs, in the order in which they are in a row."""
        if self.inputs:
            input_shape = check_inputs(self.inputs, input_shape)
        if input_shape is None:
            raise ModelError("a network needs the shape of a sample: give input_shape, or inputs by name")
        check_count(layers)
        layers = list(unrolled(layers))
        heads: Mapping[str, str] = {}
        if outputs:
            if head != "linear":
                raise ModelError(f"a head, {head!r}, can't stand behind several outputs: each has its own activation")
            layers, heads = self._split_heads(layers, outputs)
        elif head == "linear":
            layers, head = _split_head(layers)
        self.layers = tuple(_numbered(layers, Counter()))
        """As they were given, with names; repetitions are written out."""
        _check_names(self.layers)
        check_names(self.layer_names, tuple(self.inputs), outputs, [layer.name for layer in self.layers])
        self.input_shape: Shape = tuple(input_shape)
        self.head = head
        activation(head)  # a name that it knows
        self.nodes = nodes_of(self.layers, self.input_shape, self.inputs, outputs)
        """The layers in the order in which they are computed."""
        self.passed: Sequence[Any] = self._fused()
        """The layers as passes call them: each in its place, with a relu behind it in one, or as it is and observed."""
        self.segments = [range(len(self.nodes))]
        """The places that are computed one after the other with all that the pass back needs of them in memory."""
        self._watched = False
        self.output_shape = self.nodes[-1].output_shape
        self.outputs = tuple(self._outputs(heads))
        """Those of a network with several, or with one that was named."""
        specs = [list(node.parameters) for node in self.nodes]
        self.layout = ParamLayout([spec for own in specs for spec in own])
        self.state = tuple(spec for own in specs for spec in own if spec.state)
        firsts = [next((spec.name for spec in own if spec.trainable), None) for own in specs]
        self.starts = [None if name is None else self.layout.offsets[name] for name in firsts]
        """Where in the gradient vector each node's parameters begin."""
        self.learns = [False] * (len(self.nodes) + 1)
        """Whether a node or one below it has something to learn; the last one is the input."""
        for place, node in enumerate(self.nodes):
            trains = any(spec.trainable for spec in node.layer.parameters(node.given_shape))
            self.learns[place] = trains or any(self.learns[source] for source in node.sources)

    def _split_heads(self, layers: Sequence[Layer], outputs: Sequence[str]) -> tuple[list[Layer], dict[str, str]]:
        """Return named layers without the activations behind the outputs, and those."""
        named = list(_numbered(layers, Counter()))
        _check_names(named)
        check_names([layer.name for layer in _each(named)], tuple(self.inputs), outputs, [one.name for one in named])
        return split_heads(named, outputs, set(taken_names(named)))

    def _outputs(self, heads: Mapping[str, str]) -> Iterator[Output]:
        endings, start = self._endings(), 0
        for (name, head), source in zip(heads.items(), self.nodes[-1].sources, strict=False):
            ending = head if head != "linear" else "linear" if source < 0 else endings[source]
            output = Output(name, self.nodes[source].output_shape, start, head, ending)
            yield output
            start = output.stop

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, NetworkPass]:
        """Return the logits (n, *output_shape) for `x` (n, *input_shape), and the pass back. Both are in scratch.

        A network that diverges overflows: call it within ``np.errstate`` where that is found by looking at the loss.
        """
        return as_whole_batch(self.steps(params, x, ctx))

    def steps(self, params: Params, x: Array, ctx: Context) -> Steps[tuple[Array, NetworkPass]]:
        """Do the same, stopping where a sum over the whole batch is needed; so do the `steps` of the pass back."""
        this = NetworkPass(self, params, self._fit(params, x, ctx), ctx)
        return (yield from this.forward()), this

    def __repr__(self) -> str:
        head = "" if self.head == "linear" else f", head={self.head!r}"
        return f"Network({self.input_shape} -> {self.output_shape}, {', '.join(self.layer_names)}{head})"

    def observe(self, observer: Observer | None) -> None:
        """Tell `observer` of each layer's passes from now on; None: nobody, which costs nothing."""
        layers = [node.layer for node in self.nodes]
        self.passed = self._fused() if observer is None else [observed(layer, observer) for layer in layers]
        self._watched = observer is not None

    def _fused(self) -> list[Layer]:
        return fused([node.layer for node in self.nodes], [node.sources for node in self.nodes])

    @property
    def observed(self) -> bool:
        """Whether an observer is told of each layer's passes."""
        return self._watched

    def recompute_activations(self) -> None:
        """Keep only some layers' outputs until the pass back, which computes the others again. The bits stay.

        About sqrt(layers) segments of outputs of nearly the same size (Chen et al., 2016, arXiv:1604.06174).
        """
        sizes = np.cumsum([math.prod(node.output_shape) for node in self.nodes])
        count = math.isqrt(len(self.nodes))
        ends = np.searchsorted(sizes, sizes[-1] * np.arange(1, count + 1) / count) + 1
        cuts = sorted({0, *map(int, ends[:-1]), len(self.nodes)})
        self.segments = [range(start, stop) for start, stop in pairwise(cuts)]

    @property
    def recordable(self) -> bool:
        """Whether all layers compute by the context's arithmetic alone, and no two of them share parameters."""
        layers = _each([node.layer for node in self.nodes])
        return all(layer.recordable for layer in layers) and not any(node.shared for node in self.nodes)

    @property
    def synchronized(self) -> bool:
        """Whether a pass in training needs sums over the whole batch, so that all shards must be computed in step."""
        return any(isinstance(node.layer, BatchLayer) and node.layer.synchronized for node in self.nodes)

    @property
    def layer_names(self) -> list[str]:
        """The names of all layers, with those within containers."""
        return [layer.name for layer in _each(self.layers)]

    @property
    def ending(self) -> str | None:
        """The last activation, be it the head or within the layers; None where a layer of one's own comes last."""
        return self.head if self.head != "linear" else self._endings()[-1]

    def _endings(self) -> list[str | None]:
        """Return the activation that each node's outputs went through last."""
        endings: list[str | None] = []
        for node in self.nodes:
            before = {"linear" if source < 0 else endings[source] for source in node.sources}
            endings.append(node.layer.ending(before.pop() if len(before) == 1 else None))
        return endings

    def head_forward(self, logits: Array, ctx: Context) -> Array:
        """Return the outputs that people see, shape (n, *output_shape): in scratch, or the logits for a linear head."""
        if self.outputs:
            return heads_forward(self.outputs, logits, ctx)
        if self.head == "linear":
            return logits
        return ctx.arithmetic.activation(ctx, (OWNER, "head"), self.head, logits)[0]

    def first_not_finite(self, params: Params, x: Array, ctx: Context) -> str | None:
        """Return the name of the first layer with an output that is not finite, or None.

        Repeats the context's last pass in training mode, with the same random key; for error messages, so it may
        allocate.
        """
        found: list[str] = []
        ctx.begin(training=True, random_key=ctx.random_key, new_state=ctx.new_state)
        passed = self.passed
        layers = [node.layer for node in self.nodes]
        self.passed = [wrapped(layer, lambda each: Checked(each, found, name=each.name)) for layer in layers]
        try:
            with np.errstate(all="ignore"):
                self.forward(params, x, ctx)
        finally:
            self.passed = passed
        return found[0] if found else None

    def _fit(self, params: Params, x: Array, ctx: Context) -> Array:
        """Return x in the network's input shape, the parameters' type and one order and alignment in memory.

        The bits of a product may depend on the layout of its factors, and what a rank is given to slice may not matter.
        """
        if x.shape[1:] != self.input_shape:
            whole_row = self.inputs and math.prod(x.shape[1:]) == math.prod(self.input_shape)
            if not whole_row and not same_sample_shape(x.shape[1:], self.input_shape):
                raise ModelError(f"the network takes samples of shape {self.input_shape}, but got {x.shape[1:]}")
            x = x.reshape(len(x), *self.input_shape)
        dtype = next((array.dtype for array in params.values()), x.dtype)
        if x.dtype != dtype or not x.flags.c_contiguous or x.__array_interface__["data"][0] % ALIGNMENT:
            converted = ctx.scratch((OWNER, "input"), "x", x.shape, dtype)
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
    counts = Counter(layer.name for layer in _each(layers))
    twice = sorted(name for name, count in counts.items() if count > 1)
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
    rest, head = without_last_activation(layers)
    return (rest, head) if rest else (layers, "linear")


def _numbered(layers: Sequence[Layer], counts: Counter[str]) -> Iterator[Layer]:
    """Give each layer without a name its kind and number. All layers count, those within containers, too."""
    for layer in layers:
        counts[layer.kind] += 1
        named = layer if layer.name else layer.named(f"{layer.kind}_{counts[layer.kind]}")
        children = tuple(_numbered(layer.children, counts))
        yield named if children == layer.children else named.with_children(children)

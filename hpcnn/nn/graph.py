"""The graph of a network: layers one after the other, containers opened, and each told where its inputs come from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hpcnn.errors import ModelError, nearest
from hpcnn.nn.layer import Layer, MultiInput, Shape
from hpcnn.nn.layers.blocks import Block, Residual, Shared
from hpcnn.nn.layers.merging import Add
from hpcnn.nn.layers.parts import InputPart, OutputRow
from hpcnn.nn.params import ParamSpec, check_size

INPUT = "input"
"""What layers call the network's input in their `inputs`, where it has one without a name."""
MOST_LAYERS = 100_000
"""Of a network; so many take a minute to be set up."""
OUTPUTS = "outputs"
"""The name of the row that several outputs are put into."""


@dataclass(frozen=True)
class Node:
    """A layer at its place in a network."""

    layer: Any
    """A `Layer`."""
    sources: tuple[int, ...]
    """The places of the nodes whose outputs it takes; -1 is the network's input."""
    input_shapes: tuple[Shape, ...]
    """Of one sample."""
    output_shape: Shape
    shared: Mapping[str, str] = field(default_factory=dict)
    """Of a layer whose parameters are used at several places: its own names of them, and those in the network."""
    owns: bool = True
    """Whether the parameters are the layer's own."""

    @property
    def given_shape(self) -> Any:
        """What `output_shape` and `parameters` of the layer are to be given: one shape, or one for each input."""
        return self.input_shapes if isinstance(self.layer, MultiInput) else self.input_shapes[0]

    @property
    def parameters(self) -> Sequence[ParamSpec]:
        """The parameters that the layer adds to the network."""
        specs: Sequence[ParamSpec] = self.layer.parameters(self.given_shape) if self.owns else ()
        return specs


def nodes_of(
    layers: Sequence[Layer], input_shape: Shape, inputs: Mapping[str, Shape] | None = None, outputs: Sequence[str] = ()
) -> list[Node]:
    """Return the nodes of a network of named layers, each behind those that it takes. The last one is the output.

    A layer takes what the one before it returns, or what the layers that its `inputs` name return. A residual block
    becomes its layers and a sum under the block's own name. Where there are several `inputs`, by name, the first nodes
    take them out of the row; where there are several `outputs`, the last node puts them into a row.

    Raises:
        ModelError: a layer can't take its inputs, names one that is not before it, or is used by none.
    """
    graph = _Graph(input_shape, inputs or {})
    graph.place_all(layers, graph.first)
    graph.end(outputs)
    graph.check_uses()
    return graph.nodes


class _Graph:
    def __init__(self, input_shape: Shape, inputs: Mapping[str, Shape]) -> None:
        self.input_shape = input_shape
        self.nodes: list[Node] = []
        self._places: dict[str, int] = {}
        self._inputs = tuple(inputs)
        start = 0
        for name, shape in inputs.items():
            self._places[name] = self._append(InputPart(shape, start, name=name), (-1,))
            start += math.prod(shape)
        self.first: int | None = None if len(inputs) > 1 else 0 if inputs else -1
        """The place of what the first layer takes if it names nothing."""
        if not inputs:
            self._places[INPUT] = -1

    def end(self, outputs: Sequence[str]) -> None:
        """Put the outputs of layers into a row."""
        if outputs:
            self._append(OutputRow(name=OUTPUTS), tuple(self._places[name] for name in outputs))

    def place_all(self, layers: Sequence[Layer], source: int | None) -> int:
        """Append layers, the first of which takes the output at `source`; return the place of the last one's output."""
        for layer in layers:
            source = self._place(layer, source)
            self._places[layer.name] = source
        assert source is not None, "a container without layers"
        return source

    def _place(self, layer: Layer, before: int | None) -> int:
        sources = self._sources(layer, before)
        if type(layer) in (Block, Residual):
            (source,) = self._one(layer, sources)
            end = self.place_all(layer.children, source)
            if not isinstance(layer, Residual):
                return end
            layer.check_shapes(self._shape(source), self._shape(end))
            return self._append(Add(name=layer.name), (source, end))
        if isinstance(layer, Shared):
            return self._append_shared(layer, sources)
        return self._append(layer, sources)

    def _append(self, layer: Any, sources: tuple[int, ...], shared: Mapping[str, str] | None = None) -> int:
        shapes = tuple(self._shape(source) for source in sources)
        if not isinstance(layer, MultiInput):
            self._one(layer, sources)
        output = layer.output_shape(shapes if isinstance(layer, MultiInput) else shapes[0])
        check_size(f"an output of {layer.title}", output)
        self.nodes.append(Node(layer, sources, shapes, output, shared or {}, owns=shared is None))
        return len(self.nodes) - 1

    def _append_shared(self, layer: Shared, sources: tuple[int, ...]) -> int:
        place = self._places.get(layer.layer, -1)
        owner = self.nodes[place] if place >= 0 else None
        if owner is None or owner.layer.name != layer.layer or not owner.parameters:
            known = [node.layer.name for node in self.nodes if node.parameters]
            raise ModelError(
                f"{layer.title} shares the parameters of {layer.layer!r}, which is no layer before it that has some of "
                f"its own.{nearest(layer.layer, known)} Name one of {', '.join(known) or 'them: so far there is none'}."
            )
        again: Any = _again(owner.layer, layer.name)
        shapes = tuple(self._shape(source) for source in sources)
        own = again.parameters(shapes if isinstance(again, MultiInput) else shapes[0])
        same = [spec.shape for spec in own] == [spec.shape for spec in owner.parameters]
        if not same or any(spec.state for spec in own):
            raise ModelError(
                f"{layer.title} can't share the parameters of {layer.layer!r}: inputs of shape {shapes[0]} would need "
                f"others than those of shape {owner.input_shapes[0]}, or some are averages of what one place is given"
            )
        names = [spec.name for spec in owner.parameters]
        self.nodes[place] = replace(owner, shared={name: name for name in names})
        return self._append(again, sources, {spec.name: name for spec, name in zip(own, names, strict=True)})

    def _sources(self, layer: Layer, before: int | None) -> tuple[int, ...]:
        if not layer.inputs:
            if isinstance(layer, MultiInput):
                raise ModelError(f"{layer.title} takes several inputs: name them, inputs = [...]")
            if before is None:
                raise ModelError(
                    f"{layer.title} comes first, and the network has several inputs: {', '.join(self._inputs)}. Name "
                    f'the one that it takes, as inputs = ["{self._inputs[0]}"].'
                )
            return (before,)
        for name in layer.inputs:
            if name not in self._places:
                raise ModelError(
                    f"{layer.title} takes {name!r}, which is no layer before it.{nearest(name, list(self._places))} It "
                    f"can take the outputs of layers that come before it, and {self._known_inputs}: so there are no "
                    "cycles."
                )
        return tuple(self._places[name] for name in layer.inputs)

    def _one(self, layer: Layer, sources: tuple[int, ...]) -> tuple[int, ...]:
        if len(sources) != 1:
            raise ModelError(
                f"{layer.title} takes one input, but inputs names {len(sources)}: {', '.join(layer.inputs)}. Put them "
                "together by a layer such as concatenate or add."
            )
        return sources

    @property
    def _known_inputs(self) -> str:
        return ", ".join(map(repr, self._inputs or (INPUT,)))

    def _shape(self, place: int) -> Shape:
        return self.input_shape if place < 0 else self.nodes[place].output_shape

    def check_uses(self) -> None:
        used = {source for node in self.nodes for source in node.sources}
        for place, node in enumerate(self.nodes[:-1]):
            if place not in used:
                taken = "" if isinstance(node.layer, InputPart) else "the output of "
                raise ModelError(
                    f"no layer takes {taken}{node.layer.title}: name it in the inputs of another, or remove it"
                )


def _again(layer: Layer, name: str) -> Layer:
    """Return the layer under another name, and those within it, whose scratch must be their own, too."""
    children = [_again(child, f"{name}/{child.name}") for child in layer.children]
    return (layer.with_children(children) if children else layer).named(name)


def check_count(layers: Sequence[Layer]) -> None:
    """Raise ModelError if there are more layers than a network can have, with the repetitions of blocks."""
    count = _count(layers)
    if count > MOST_LAYERS:
        raise ModelError(
            f"a network of {count:,} layers, with the repetitions of blocks, but at most {MOST_LAYERS:,} are possible. "
            "Give a lower repeat."
        )


def _count(layers: Sequence[Layer]) -> int:
    return sum((1 + _count(layer.children)) * (layer.repeat if isinstance(layer, Block) else 1) for layer in layers)


def unrolled(layers: Sequence[Layer]) -> Iterator[Layer]:
    """Yield layers with the repetitions of blocks written out: their named layers get the number of the repetition.

    The first repetition takes what the block's `inputs` names, each other one what the one before it returns.
    """
    for layer in layers:
        if not isinstance(layer, Residual | Block):
            yield layer
        elif layer.repeat == 1:
            yield layer.with_children(tuple(unrolled(layer.layers)))
        else:
            for number in range(1, layer.repeat + 1):
                repetition = layer.repetition(number, tuple(unrolled(layer.layers)))
                yield repetition if number == 1 else repetition.taking(())

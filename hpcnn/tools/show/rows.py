"""The rows of a table of a network: layers, with those of blocks below these, and repetitions of a block in one row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hpcnn.nn.graph import INPUT, Node
from hpcnn.nn.layer import Layer, Shape
from hpcnn.nn.network import Network

HEAD = "output"
"""What the activation that stands apart from the layers is called."""


@dataclass(frozen=True)
class Row:
    """A layer, or a block with its layers below it."""

    name: str
    kind: str
    shape: Shape | None = None
    """Of one output; None of a block, whose last layer has it."""
    inputs: tuple[str, ...] = ()
    """The names of its inputs, where they are not just the layer before it."""
    trainable: int = 0
    frozen: int = 0
    averages: int = 0
    """Entries of moving averages, which change without a gradient."""
    multiply_adds: int = 0
    shares: str = ""
    """The layer whose parameters it uses."""
    depth: int = 0
    """How many blocks it is in."""
    below: tuple[Row, ...] = field(default=(), repr=False)

    @property
    def parameters(self) -> int:
        """Entries of all parameters, with those of the layers below."""
        return self.total("trainable") + self.total("frozen") + self.total("averages")

    def total(self, name: str) -> int:
        """Return the sum of a number over the row and those below."""
        own: int = getattr(self, name)
        return own + sum(row.total(name) for row in self.below)

    @property
    def likeness(self) -> object:
        """Equal for repetitions of one block: all but names and inputs."""
        return (
            self.kind, self.shape, self.trainable, self.frozen, self.averages, self.multiply_adds,
            bool(self.inputs), tuple(row.likeness for row in self.below),
        )  # fmt: skip


def rows_of(network: Network) -> tuple[Row, ...]:
    """Return the rows of a network, first to last; the activation behind all layers is the last."""
    rows = _Rows(network)
    found = rows.of(network.layers, 0)
    found += tuple(
        Row(f"{HEAD} {output.name}", output.head, output.shape, inputs=(output.name,)) for output in network.outputs
    )
    if network.head == "linear":
        return found
    return (*found, Row(HEAD, network.head, network.output_shape))


class _Rows:
    def __init__(self, network: Network) -> None:
        self._nodes = network.nodes
        self._places = {node.layer.name: place for place, node in enumerate(network.nodes)}
        self._owners = {
            name: node.layer.name for node in network.nodes if node.owns for name in node.shared
        }  # by the full name of a parameter that others use, too

    def of(self, layers: Sequence[Layer], depth: int) -> tuple[Row, ...]:
        return tuple(row for layer in layers for row in self._of_layer(layer, depth))

    def _of_layer(self, layer: Layer, depth: int) -> Iterator[Row]:
        place = self._places.get(layer.name)
        if not layer.children:
            assert place is not None
            yield self._of_node(place, depth)
            return
        below = self.of(layer.children, depth + 1)
        if place is not None:  # a residual block ends in a sum of its own name
            below = (*below, self._of_node(place, depth + 1))
        yield Row(layer.name, layer.kind, depth=depth, below=below)

    def _of_node(self, place: int, depth: int) -> Row:
        node = self._nodes[place]
        size = sum(spec.size for spec in node.parameters)
        trainable = sum(spec.size for spec in node.parameters if spec.trainable)
        averages = sum(spec.size for spec in node.parameters if spec.state)
        return Row(
            name=node.layer.name,
            kind=node.layer.kind,
            shape=node.output_shape,
            inputs=() if node.sources == (place - 1,) else tuple(map(self._name, node.sources)),
            trainable=trainable,
            frozen=size - trainable - averages,
            averages=averages,
            multiply_adds=multiply_adds(node),
            shares="" if node.owns else next(self._owners[name] for name in node.shared.values()),
            depth=depth,
        )

    def _name(self, place: int) -> str:
        return INPUT if place < 0 else str(self._nodes[place].layer.name)


def multiply_adds(node: Node) -> int:
    """Return the multiply-adds of a node for one sample."""
    count: int = node.layer.multiply_adds(node.given_shape)
    return count


def folded(rows: Sequence[Row]) -> Iterator[tuple[Row, Sequence[Row]]]:
    """Yield each row with the blocks after it that repeat it, which then have no row of their own.

    >>> block = [Row(f"block_{number}", "block", below=(Row("dense", "dense", (4,)),)) for number in (1, 2, 3)]
    >>> [(row.name, [other.name for other in others]) for row, others in folded([*block, Row("end", "dense", (2,))])]
    [('block_1', ['block_2', 'block_3']), ('end', [])]
    """
    place = 0
    while place < len(rows):
        row, end = rows[place], place + 1
        while row.below and end < len(rows) and rows[end].likeness == row.likeness:
            end += 1
        yield row, rows[place + 1 : end]
        place = end

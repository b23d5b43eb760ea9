"""A network as a table of text, with all names in full: layers take others by their names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from hpcnn.core.formatting import counted
from hpcnn.nn.graph import INPUT
from hpcnn.nn.layer import Shape
from hpcnn.nn.network import Network
from hpcnn.tools.show.rows import Row, folded, rows_of

HEADINGS = ("layer", "kind", "output", "inputs", "parameters", "multiply-adds")
_LEFT = 4
"""Columns of text; those of numbers are aligned on the right."""
_TOTAL = 48
NONE = "-"
SUM = "(sum)"
"""Stands for the name of a block in the row of the sum that it ends in."""
OF_A_STEP = 3
"""A pass back does about twice the multiply-adds of a pass forward."""


class Line(NamedTuple):
    """A line of a table."""

    across: bool
    """Whether the first cell goes across all columns of text."""
    cells: list[str]


def network_table(network: Network, batch: int) -> Iterator[str]:
    """Yield the lines of the table of a network, and of its totals; `batch` is the number of samples of a step."""
    yield from _aligned([Line(False, list(HEADINGS)), *network_lines(network)])
    sums = totals(network)
    yield ""
    for what, value in {
        "parameters": sums["parameters"],
        "  trainable": sums["trainable"],
        "  frozen": sums["frozen"],
        **({"  moving averages": sums["moving averages"]} if sums["moving averages"] else {}),
        "multiply-adds of a sample, forward": sums["multiply-adds"],
        f"multiply-adds of a step of {counted(batch, 'sample')}": OF_A_STEP * batch * sums["multiply-adds"],
    }.items():
        yield f"{what:<{_TOTAL}}{value:>20,}"


def network_lines(network: Network) -> list[Line]:
    """Return the lines of the table of a network, without the headings."""
    inputs = {f"{INPUT} {name}": shape for name, shape in network.inputs.items()} or {INPUT: network.input_shape}
    lines = [Line(False, [name, "", shape_text(shape), "", NONE, NONE]) for name, shape in inputs.items()]
    return [*lines, *_lines_of(rows_of(network))]


def totals(network: Network) -> dict[str, int]:
    """Return the sums over a network by what they are."""
    layout = network.layout
    averages = sum(spec.size for spec in layout.specs if spec.state)
    return {
        "parameters": layout.size,
        "trainable": layout.trainable_size,
        "frozen": layout.size - layout.trainable_size - averages,
        "moving averages": averages,
        "multiply-adds": sum(row.total("multiply_adds") for row in rows_of(network)),
    }


def shape_text(shape: Shape) -> str:
    """Return a shape as text.

    >>> shape_text((28, 28)), shape_text(())
    ('28 x 28', '1')
    """
    return " x ".join(f"{size:,}" for size in shape) or "1"


def _lines_of(rows: Sequence[Row], block: str = "") -> Iterator[Line]:
    for row, repeats in folded(rows):
        yield Line(False, row_cells(replace(row, name=SUM) if row.name == block else row))
        yield from _lines_of(row.below, row.name)
        if repeats:
            first, last = repeats[0].name, repeats[-1].name
            names = first if len(repeats) == 1 else f"{first} to {last}: each"
            parameters = sum(other.parameters for other in repeats)
            multiply_adds = sum(other.total("multiply_adds") for other in repeats)
            text = _indented(f"{names} as {row.name}", row.depth)
            yield Line(True, [text, "", "", "", count(parameters), count(multiply_adds)])


def row_cells(row: Row) -> list[str]:
    """Return the cells of a row."""
    name = _indented(row.name, row.depth)
    if row.below:
        return [name, row.kind, "", "", "", ""]
    parameters = f"of {row.shares}" if row.shares else count(row.parameters)
    frozen = " frozen" if row.frozen and not row.trainable else ""
    assert row.shape is not None
    return [
        name, row.kind, shape_text(row.shape), ", ".join(row.inputs), parameters + frozen, count(row.multiply_adds)
    ]  # fmt: skip


def count(value: int) -> str:
    """Return a number with thousands separators, and a dash for 0."""
    return f"{value:,}" if value else NONE


def _indented(name: str, depth: int) -> str:
    return "  " * depth + name


def _aligned(lines: Sequence[Line]) -> Iterator[str]:
    used = [place for place in range(len(HEADINGS)) if any(line.cells[place] for line in lines[1:])]
    longest = [max(len(line.cells[place]) for line in lines if place >= _LEFT or not line.across) for place in used]
    text = sum(place < _LEFT for place in used)
    across = sum(longest[:text]) + 2 * (text - 1)
    for line in lines:
        cells = [line.cells[place] for place in used]
        wide = [(cells[0], across)] if line.across else list(zip(cells[:text], longest[:text], strict=True))
        first = [cell.ljust(width) for cell, width in wide]
        numbers = [cell.rjust(width) for cell, width in zip(cells[text:], longest[text:], strict=True)]
        yield "  ".join([*first, *numbers]).rstrip()

"""What there is to say about data as text: tables, bars, and what looks wrong, within the width of a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from hpcnn.core.formatting import counted
from hpcnn.tools.data.columns import date_text
from hpcnn.tools.data.facts import VALIDATION, ClassFacts, ColumnFacts, DataFacts
from hpcnn.tools.html import clean
from hpcnn.tools.report.text import can_show
from hpcnn.tools.report.values import NONE, figure
from hpcnn.tools.show.table import shape_text

HEAD = ("", "kind", "missing", "minimum", "mean", "maximum", "deviation")
_WIDEST, _NARROWEST, _LONGEST_NAME = 120, 40, 32
_MOST_COLUMNS, _MOST_CLASSES = 30, 30
_SPACES = str.maketrans(dict.fromkeys("\n\r\t", " "))


def text_lines(facts: DataFacts, *, width: int, encoding: str) -> Iterator[str]:
    """Yield the lines, none of them longer than `width`."""
    width = min(max(width, _NARROWEST), _WIDEST)
    block = "█" if can_show(encoding, "█…") else "#"
    for line in _lines(facts, width, block):
        yield clean(line).translate(_SPACES)[:width].rstrip()


def summary(facts: DataFacts) -> list[tuple[str, str]]:
    """Return the figures that one looks for first, each with its name."""
    parts = ", ".join(f"{part.samples:,} for {part.name}" for part in facts.parts)
    rows = [
        ("source", facts.source),
        ("samples", parts),
        ("inputs", f"{shape_text(facts.x_shape)}, {facts.x_type}"),
        ("targets", f"{shape_text(facts.y_shape)}, {facts.y_type}"),
    ]
    if facts.vocabulary:
        rows.append(("vocabulary", counted(facts.vocabulary, "character")))
    if facts.network_shape is not None:
        low_high = facts.network_range
        span = f", from {figure(low_high[0])} to {figure(low_high[1])}" if low_high else ""
        rows.append(("the network gets", f"{shape_text(facts.network_shape)}{span}"))
    if facts.sampled:
        looked = " and ".join(f"{part.looked_at:,} of {part.samples:,} of the {part.name} data" for part in facts.parts)
        rows.append(("looked at", f"{looked}, in evenly spaced runs; figures are of these"))
    return rows


def column_cells(column: ColumnFacts) -> list[str]:
    """Return the cells of a column below `HEAD`."""
    missing = f"{column.missing + column.infinite:,}" if column.missing + column.infinite else NONE
    if column.kind == "words":
        return [column.name, "words", missing, "", "", "", ""]
    numbers = [column.low, column.mean, column.high]
    if column.kind == "date":
        dates = [NONE if value is None else date_text(value) for value in numbers]
        return [column.name, "date", missing, *dates, NONE]
    return [column.name, column.kind, missing, *map(figure, numbers), figure(column.deviation)]


def words_text(column: ColumnFacts) -> str:
    """Return how many words a column has, and the most frequent ones."""
    few = ", ".join(f"{word} ({count:,})" for word, count in column.words.items())
    more = ", ..." if column.distinct and column.distinct > len(column.words) else ""
    return f"{counted(column.distinct or 0, 'word')}: {few}{more}"


def _lines(facts: DataFacts, width: int, block: str) -> Iterator[str]:
    yield f"the data of {facts.job}"
    for name, value in summary(facts):
        yield from textwrap.wrap(f"{name:<18}{value}", width, initial_indent="  ", subsequent_indent=" " * 20)
    yield ""
    yield from _columns("inputs of the training data", facts.inputs)
    yield ""
    if facts.classes:
        yield from _bars(facts.classes, width, block)
    else:
        yield from _columns("targets of the training data", facts.targets)
    if facts.rows:
        yield ""
        yield "the first samples of the training data:"
        yield from _aligned([facts.head, *facts.rows], numbers=False)
    yield ""
    yield from _findings(facts, width)


def _columns(title: str, columns: Sequence[ColumnFacts]) -> Iterator[str]:
    shown = columns[:_MOST_COLUMNS]
    lines = list(_aligned([[title, *HEAD[1:]], *map(column_cells, shown)], numbers=True))
    yield lines[0]
    for line, column in zip(lines[1:], shown, strict=True):
        yield line
        if column.kind == "words":
            yield f"    {words_text(column)}"
    if len(columns) > len(shown):
        yield f"and {len(columns) - len(shown):,} more; -o FILE and --json have all of them"


def _aligned(rows: Sequence[Sequence[str]], *, numbers: bool) -> Iterator[str]:
    cells = [[_shortened(cell) for cell in row] for row in rows]
    widths = [max(len(row[place]) for row in cells) for place in range(len(cells[0]))]
    for row in cells:
        padded = [
            cell.rjust(width) if numbers and place > 1 else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  " + "  ".join(padded)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 3] + "..."


def _bars(classes: Sequence[ClassFacts], width: int, block: str) -> Iterator[str]:
    held = any(one.validation is not None for one in classes)
    head = ["class", "training", *([VALIDATION] if held else [])]
    shown = classes[:_MOST_CLASSES]
    rows = [
        [one.name, f"{one.training:,}", *([f"{one.validation:,}"] if one.validation is not None else [])]
        for one in shown
    ]
    widths = [max(len(_shortened(row[place])) for row in [head, *rows]) for place in range(len(head))]
    room = min(40, width - sum(widths) - 2 * len(widths) - 4)
    most = max(one.training for one in classes) or 1
    for row, length in zip([head, *rows], [0, *(one.training / most for one in shown)], strict=True):
        numbers = (cell.rjust(size) for cell, size in zip(row[1:], widths[1:], strict=True))
        bar = block * max(round(length * room), int(length > 0)) if room > 0 else ""
        yield f"  {'  '.join([_shortened(row[0]).ljust(widths[0]), *numbers])}  {bar}"
    if len(classes) > len(shown):
        yield f"  and {len(classes) - len(shown):,} more classes; -o FILE and --json have all of them"


def _findings(facts: DataFacts, width: int) -> Iterator[str]:
    if not facts.findings:
        yield "nothing looks wrong"
    for finding in facts.findings:
        yield from textwrap.wrap(f"{finding.level}: {finding.text}", width, subsequent_indent="    ")

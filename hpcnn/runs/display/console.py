"""Tables and text on the terminal, or on whatever standard output is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO, cast

from hpcnn.system.output import raw_output
from hpcnn.system.terminal import terminal_path, terminal_size

if TYPE_CHECKING:
    from rich.console import Console

_LEAST_FOR_COLUMNS = 32


def rich_console(terminal: str | None) -> Console:
    """Return a console for standard output, sized and coloured as the terminal behind it."""
    from rich.console import Console

    file = cast(TextIO, raw_output())
    if terminal is None:
        return Console(file=file, width=100)
    columns, lines = terminal_size(terminal)
    return Console(file=file, force_terminal=True, width=columns, height=lines)


def print_results(title: str, rows: Mapping[str, Any], classes: Mapping[str, Sequence[str]] | None = None) -> None:
    """Print names and values: a table with lines in a terminal, a plain one elsewhere, and none where it is narrow.

    `classes` are the words of the rows and columns of values that are matrices.
    """
    from rich.table import Table

    terminal = terminal_path()
    console = rich_console(terminal)
    words = {name: _text(value, (classes or {}).get(name, ())) for name, value in rows.items()}
    console.print(title, highlight=False, markup=False, soft_wrap=True)
    if console.width < _LEAST_FOR_COLUMNS:
        for name, value in words.items():
            console.print(f"{name} {value}", highlight=False, markup=False)
        return
    table = Table(show_header=False)
    if terminal is None:
        table.box = None
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in words.items():
        table.add_row(name, value)
    console.print(table, highlight=False, markup=False)


def _text(value: Any, classes: Sequence[str]) -> str:
    if getattr(value, "ndim", 0) == 2:
        width = len(f"{value.max():.0f}")
        ends = [f"  {word}" for word in classes] if len(classes) == len(value) else [""] * len(value)
        rows = (" ".join(f"{count:{width}.0f}" for count in row) for row in value)
        return "\n".join(row + end for row, end in zip(rows, ends, strict=True))
    return f"{value:.6g}" if isinstance(value, float) else str(value)

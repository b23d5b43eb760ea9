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
    """Print names and values: a table with lines in a terminal, none in a narrow one, and columns elsewhere.

    `classes` are the words of the rows and columns of values that are matrices.
    """
    from rich.table import Table

    terminal = terminal_path()
    console = rich_console(terminal)
    words = {name: _text(value, (classes or {}).get(name, ())) for name, value in rows.items()}
    console.print(title, highlight=False, markup=False, soft_wrap=True)
    if terminal is None:
        width = max(map(len, words))
        for name, value in words.items():
            aligned = value.replace("\n", f"\n{'':{width + 3}}")
            console.print(f" {name:<{width}}  {aligned}", highlight=False, markup=False, soft_wrap=True)
        return
    if console.width < _LEAST_FOR_COLUMNS:
        for name, value in words.items():
            console.print(f"{name} {value}", highlight=False, markup=False)
        return
    table = Table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in words.items():
        table.add_row(name, value)
    console.print(table, highlight=False, markup=False)


def _text(value: Any, classes: Sequence[str]) -> str:
    if getattr(value, "ndim", 0) == 2:
        return _matrix_text(value, classes)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _matrix_text(counts: Any, words: Sequence[str]) -> str:
    """Return a confusion matrix with the numbers of the classes beside it and above it, and their words at the end."""
    classes = range(len(counts))
    label, width = len(str(classes[-1])), len(f"{max(counts.max(), classes[-1]):.0f}")
    ends = [f"  {word}" for word in words] if len(words) == len(counts) else [""] * len(counts)
    lines = [" ".join([f"{'':{label}}", *(f"{place:{width}}" for place in classes)])]
    rows = (" ".join([f"{true:{label}}", *(f"{count:{width}.0f}" for count in counts[true])]) for true in classes)
    lines += map("".join, zip(rows, ends, strict=True))
    return "\n".join(["rows: true class, columns: predicted class", *lines])

"""What the tools write: tables on the screen, files at paths that a user has named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hpcnn.errors import HpcnnError
from hpcnn.runs.display.console import rich_console
from hpcnn.system.output import write_line
from hpcnn.system.output_files import output_path
from hpcnn.system.terminal import terminal_path

_PLAIN_WIDTH = 160


def make_folder(folder: Path | None) -> None:
    """Make the folder, if one was asked for, before anything is computed."""
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HpcnnError(f"can't make the folder {str(folder)!r} ({error.strerror}). Give another one by -o.") from None


@contextmanager
def writing(path: Path, remedy: str = "Give another file by -o.") -> Iterator[Path]:
    """Yield the path of a temporary file, as `output_path` does; `remedy` ends the error."""
    try:
        with output_path(path) as temporary:
            yield temporary
    except OSError as error:
        raise HpcnnError(f"can't write {str(path)!r}: {error.strerror}. {remedy}") from None


def write_whole(path: Path, text: str, remedy: str = "Give another folder by -o.") -> None:
    """Write a text file; see `writing`."""
    with writing(path, remedy) as temporary:
        temporary.write_text(text, encoding="utf-8")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str]) -> None:
    """Print a table of numbers, with lines in a terminal and plain elsewhere, and sentences below it."""
    from rich.table import Table

    terminal = terminal_path()
    console = rich_console(terminal)
    table = Table(*columns)
    for column in table.columns:
        column.justify = "right"
    if terminal is None:
        table.box, console.width = None, _PLAIN_WIDTH
    for row in rows:
        table.add_row(*row)
    console.print(title, highlight=False, markup=False)
    console.print(table, highlight=False, markup=False)
    for note in notes:
        write_line(note)

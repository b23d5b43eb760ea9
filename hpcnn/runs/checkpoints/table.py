"""The checkpoints of a run as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hpcnn.runs.checkpoints.index import CheckpointFile
from hpcnn.runs.display.console import rich_console
from hpcnn.system.output import write_line
from hpcnn.system.terminal import terminal_path


def print_table(run: Path, files: Sequence[CheckpointFile]) -> None:
    """Print the verified files of a run, and below them the damage of each damaged one."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    terminal = terminal_path()
    table = Table(box=box.SIMPLE if terminal else None)
    monitor = next((file.monitor for file in files if file.monitor), "")
    for name in ("epoch", "step", monitor, "size", "age", "verified"):
        table.add_column(escape(name), justify="right")
    table.add_column("file", overflow="fold")
    for file in files:
        progress = file.facts.progress if file.facts else None
        numbers = [f"{progress.epoch:,}", f"{progress.step:,}"] if progress else ["", ""]
        value = "" if file.value is None else f"{file.value:.6g}"
        state, names = "no" if file.trouble else "yes", escape(", ".join(file.names(run)))
        table.add_row(*numbers, value, _size(file.size_bytes), _age(file.age_s), state, names)
    console = rich_console(terminal)
    console.print(f"checkpoints of {run}", highlight=False, markup=False)
    console.print(table, highlight=False)
    for file in files:
        if file.trouble:
            write_line(file.trouble)


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def _age(seconds: float) -> str:
    for unit, limit in (("s", 60), ("min", 60), ("h", 48)):
        if seconds < limit:
            return f"{seconds:.0f} {unit}"
        seconds /= 60
    return f"{seconds / 24:.0f} d"

"""The checkpoints of a run as a table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpcnn.errors import CheckpointError
from hpcnn.runs.checkpoints.index import CheckpointFile, find_checkpoints
from hpcnn.runs.display.console import rich_console
from hpcnn.runs.run_folder import RunFolder
from hpcnn.system.output import write_line
from hpcnn.system.terminal import terminal_path


@dataclass(frozen=True)
class CheckpointRow:
    """One file."""

    names: list[str]
    """All its names, from the run folder on."""
    epoch: int | None
    """Epochs done; None, as are the next three, if the file does not tell."""
    step: int | None
    monitor: str | None
    value: float | None
    """Of the monitor, at the end of the last epoch."""
    size_bytes: int
    age_s: float
    trouble: str
    """What is wrong with the file; empty if it verifies."""

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {**asdict(self), "verified": not self.trouble}


def list_run(run: Path) -> list[CheckpointRow]:
    """Return the files of a run, the newest state first, each verified.

    Raises:
        CheckpointError: there is no such run, or it has no files.
    """
    folder = RunFolder(run)
    found = find_checkpoints([*folder.steps(), folder.last, folder.best, folder.model])
    if not found:
        what = "there is no run" if not folder.holds_run() else "no checkpoint is there yet of the run"
        raise CheckpointError(f"{what} {str(run)!r}. Give the folder of a run that has saved.")
    return [_row(run, file) for file in found]


def _row(run: Path, file: CheckpointFile) -> CheckpointRow:
    trouble = file.verify()
    try:
        status = file.path.stat()
        size, age_s = status.st_size, time.time() - status.st_mtime
    except OSError:  # a run that goes on has just deleted it
        size, age_s = 0, 0.0
    names = [str(path.relative_to(run)) for path in file.paths]
    if file.facts is None:
        return CheckpointRow(names, None, None, None, None, size, age_s, trouble)
    progress = file.facts.progress
    monitor = _monitor(file)
    value = progress.values.get(monitor)
    number = value if isinstance(value, float) else None
    return CheckpointRow(names, progress.epoch, progress.step, monitor, number, size, age_s, trouble)


def _monitor(file: CheckpointFile) -> str:
    """Return the name of the value that decides which checkpoint is the best."""
    assert file.facts is not None
    run = file.facts.job.get("run")
    chosen = run.get("monitor") if isinstance(run, dict) else ""
    return str(chosen or ("val_loss" if "val_loss" in file.facts.progress.values else "loss"))


def print_rows(run: Path, rows: Sequence[CheckpointRow]) -> None:
    """Print the files of a run, and below what is wrong with some."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    terminal = terminal_path()
    table = Table(box=box.SIMPLE if terminal else None)
    monitor = next((row.monitor for row in rows if row.monitor), "")
    for name in ("epoch", "step", monitor, "size", "age", "verified"):
        table.add_column(escape(name), justify="right")
    table.add_column("file", overflow="fold")
    for row in rows:
        numbers = ["" if each is None else f"{each:,}" for each in (row.epoch, row.step)]
        value = "" if row.value is None else f"{row.value:.6g}"
        state = "no" if row.trouble else "yes"
        table.add_row(*numbers, value, _size(row.size_bytes), _age(row.age_s), state, escape(", ".join(row.names)))
    console = rich_console(terminal)
    console.print(f"checkpoints of {run}", highlight=False, markup=False)
    console.print(table, highlight=False)
    for row in rows:
        if row.trouble:
            write_line(row.trouble)


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

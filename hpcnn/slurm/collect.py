"""The runs of a sweep in one table, best first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcnn.core.formatting import csv_text
from hpcnn.errors import JobError
from hpcnn.slurm.queue import elements_of
from hpcnn.slurm.run_files import RunFiles, read_json
from hpcnn.slurm.selection import select
from hpcnn.slurm.status import statuses
from hpcnn.slurm.sweep import Point, read_points, to_toml

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One run of a sweep."""

    index: int
    point: Point
    state: str
    """``done``, or another state of `hpcnn status`."""
    monitor: str
    """Name of the value that determines the best run; empty for a run that is not done."""
    best: float | None
    """Best value of it."""
    values: dict[str, Any]
    """At the end, or at the last reported epoch."""
    epochs: int | None
    seconds: float | None
    weights_sha256: str

    def as_json(self) -> dict[str, Any]:
        """Return the row as plain values for JSON."""
        return {
            "index": self.index,
            "settings": {key: plain(value) for key, value in self.point.items()},
            "state": self.state,
            "best": {self.monitor: self.best} if self.monitor else {},
            "values": self.values,
            "epochs": self.epochs,
            "seconds": self.seconds,
            "weights_sha256": self.weights_sha256,
        }


def collect(folder: Path) -> list[Row]:
    """Return the runs of a sweep, best first, then those that are not done by index.

    Raises:
        JobError: the folder does not contain a sweep.
    """
    run = RunFiles(folder.absolute())
    if not run.sweep.exists():
        raise JobError(
            f"{str(folder)!r} does not contain a sweep: there is no sweep.toml. Submit one: hpcnn submit JOB --sweep "
            "FILE"
        )
    selection = select(str(folder))
    states = {Path(one.run).name: one.state for one in statuses(selection)}
    waiting = {index: "pending" for job in selection.active for index in elements_of(job.job_id)}
    rows = []
    for index, point in enumerate(read_points(run.sweep)):
        state = states.get(str(index)) or waiting.get(index, "not begun")
        rows.append(_row(RunFiles(run.path / str(index)), index, point, state))
    return sorted(rows, key=_rank)


def _row(run: RunFiles, index: int, point: Point, state: str) -> Row:
    result, progress = read_json(run.result), read_json(run.progress)
    best = result.get("best")
    monitor, value = next(iter(best.items())) if isinstance(best, dict) and best else ("", None)
    values = result.get("values") or progress.get("values") or {}
    return Row(
        index,
        point,
        "done" if result else state,
        monitor,
        value if isinstance(value, int | float) else None,
        values if isinstance(values, dict) else {},
        result.get("epochs", progress.get("epoch")),
        result.get("seconds"),
        result.get("weights_sha256", ""),
    )


def _rank(row: Row) -> tuple[int, float, int]:
    if row.state != "done":
        return 2, 0.0, row.index
    return *rank_of_best(row.monitor, math.nan if row.best is None else row.best), row.index


def rank_of_best(monitor: str, value: float) -> tuple[int, float]:
    """Return what sorts values of `monitor`, the best first, and NaN last."""
    from hpcnn.training.callbacks import improves  # NumPy comes with it

    if math.isnan(value):
        return 1, 0.0
    return 0, value if improves(monitor, 0.0, 1.0) else -value


def table(rows: Sequence[Row]) -> Table:
    """Return the rows as a table."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    keys, monitor, numbers = _keys(rows), _monitor(rows), _value_names(rows)
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column("#", justify="right")
    for name in short(keys):
        shown.add_column(Text(name), justify="right", overflow="fold")
    shown.add_column("state")
    for name in ([f"best {monitor}"] if monitor else []) + ["epochs", *numbers, "seconds"]:
        shown.add_column(Text(name), justify="right")
    for row in rows:
        settings = (to_toml(row.point[key]) if key in row.point else "" for key in keys)
        cells = [str(row.index), *settings, row.state]
        cells += [figure(row.best)] if monitor else []
        cells += [figure(row.epochs), *(figure(row.values.get(name)) for name in numbers), figure(row.seconds)]
        shown.add_row(*map(Text, cells), style="" if row.state == "done" else "dim")
    return shown


def as_csv(rows: Sequence[Row]) -> str:
    """Return the rows as CSV, with a heading."""
    keys, names = _keys(rows), _value_names(rows)
    header = ["index", *keys, "state", f"best_{_monitor(rows)}", "epochs", *names, "seconds", "weights_sha256"]

    def cells(row: Row) -> list[object]:
        settings = (plain(row.point.get(key, "")) for key in keys)
        values = (row.values.get(name) for name in names)
        return [row.index, *settings, row.state, row.best, row.epochs, *values, row.seconds, row.weights_sha256]

    return csv_text(header, map(cells, rows))


def _keys(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(key for row in sorted(rows, key=lambda row: row.index) for key in row.point))


def short(keys: Sequence[str]) -> list[str]:
    """Return the last part of each key, or the whole key where that is ambiguous."""
    ends = [key.rpartition(".")[2] for key in keys]
    return [end if ends.count(end) == 1 else key for key, end in zip(keys, ends, strict=True)]


def _monitor(rows: Sequence[Row]) -> str:
    return next((row.monitor for row in rows if row.monitor), "")


def _value_names(rows: Sequence[Row]) -> list[str]:
    names = dict.fromkeys(name for row in rows for name in row.values)
    return [name for name in names if not any(isinstance(row.values.get(name), list) for row in rows)]


def plain(value: Any) -> Any:
    """Return a value of TOML for JSON and CSV, which have no date types."""
    return value if isinstance(value, bool | int | float | str | list | dict) else str(value)


def figure(value: object) -> str:
    """Return a number with six digits; empty for None."""
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)

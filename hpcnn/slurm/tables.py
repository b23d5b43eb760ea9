"""Tables of the states of runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hpcnn.core.formatting import counted, duration
from hpcnn.slurm.status import Status

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

_STYLES = {"done": "green", "failed": "red", "running": "bold", "stopped": "yellow", "cancelled": "yellow"}

_NUMBERS = ("nodes", "epoch", "step", "loss", "samples/s", "left", "wall left", "restarts")
_NARROW = ("epoch", "loss", "left", "wall left")
"""The most important numbers, for a terminal with fewer columns than `_WIDE`."""
_WIDE = 120


def overview(statuses: Sequence[Status], width: int) -> Group:
    """Return runs as a table, one per line, followed by reasons why some wait or have ended."""
    from rich.console import Group
    from rich.text import Text

    notes = [Text(f"{_name(one)}: {one.state}: {one.why}", style="dim") for one in statuses if one.why]
    return Group(_table(statuses, wide=width >= _WIDE), *notes)


def _table(statuses: Sequence[Status], *, wide: bool) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    rows = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    rows.add_column("run", overflow="fold")
    rows.add_column("job", no_wrap=True)
    rows.add_column("state", no_wrap=True)
    shown = [place for place, name in enumerate(_NUMBERS) if wide or name in _NARROW]
    for place in shown:
        rows.add_column(_NUMBERS[place], justify="right", no_wrap=True)
    for one in statuses:
        state = Text(one.state, style=_STYLES.get(one.state, ""))
        numbers = _numbers(one)
        rows.add_row(Text(_name(one)), Text(one.job_id), state, *(Text(numbers[place]) for place in shown))
    return rows


def card(one: Status) -> Table:
    """Return one run as a table of names and values."""
    from rich.table import Table
    from rich.text import Text

    rows, running = Table.grid(padding=(0, 2)), one.state == "running"
    nodes, epoch, step, loss, speed, left, wall_left, restarts = _numbers(one)
    ranks = f", {counted(one.ranks, 'rank')}" if one.ranks else ""
    hosts = f" ({one.hosts})" if one.hosts else ""
    for name, value in (
        ("run", short_path(one.run)),
        ("job", one.job_id),
        ("state", one.state + (f": {one.why}" if one.why else "")),
        ("starts at", one.starts_at.replace("T", " ")),
        ("nodes", f"{nodes}{hosts}{ranks}" if nodes else ""),
        ("epoch", epoch),
        ("step", step),
        ("loss", loss),
        ("samples/s", speed),
        ("time left", f"{left or '?'} of training, {wall_left or 'no limit'} of wall time" if running else ""),
        ("restarts", restarts),
    ):
        if value:
            style = _STYLES.get(one.state, "") if name == "state" else ""
            rows.add_row(Text(name, style="dim"), Text(value, style=style, overflow="fold"))
    return rows


def line(one: Status) -> str:
    """Return one run as a line for a log."""
    _, epoch, step, loss, speed, left, wall_left, restarts = _numbers(one)
    words = [
        one.state + (f" ({one.why})" if one.why else ""),
        epoch and f"epoch {epoch}",
        step and f"step {step}",
        loss and f"loss {loss}",
        speed and f"{speed} samples/s",
        left and f"left {left}",
        wall_left and f"wall left {wall_left}",
        restarts != "0" and f"restarts {restarts}",
    ]
    return "  ".join([f"{one.job_id or '-'} {_name(one)}:", *(word for word in words if word)])


def _name(one: Status) -> str:
    return short_path(one.run) or one.name


def _numbers(one: Status) -> list[str]:
    """Return all numbers as text; empty if unknown."""
    return [
        "" if one.nodes is None else str(one.nodes),
        _of(one.epoch, one.epochs),
        _of(one.step, one.steps),
        "" if one.loss is None else f"{one.loss:.4g}",
        "" if one.samples_per_s is None or one.state != "running" else f"{one.samples_per_s:,.0f}",
        "" if one.left_s is None else duration(one.left_s),
        "" if one.wall_left_s is None else duration(one.wall_left_s),
        str(one.restarts),
    ]


def _of(done: int | None, total: int | None) -> str:
    if done is None:
        return ""
    return f"{done:,}/{total:,}" if total and total >= done else f"{done:,}"


def short_path(path: str) -> str:
    """Return a path relative to the working folder if it is below it."""
    try:
        return str(Path(path).relative_to(Path.cwd())) if path else ""
    except ValueError:
        return path

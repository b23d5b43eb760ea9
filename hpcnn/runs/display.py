"""What rank 0 shows: a live display in a terminal, plain lines elsewhere, and a table at the end."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO, cast

from hpcnn.runs.live_display import LiveDisplay
from hpcnn.runs.run_facts import News, Pace, RunFacts, duration, pairs
from hpcnn.system.output import beneath_display, write_line
from hpcnn.system.terminal import terminal_path, terminal_size
from hpcnn.training.callbacks import Callback, Control, EpochReport
from hpcnn.training.replica import Replica

if TYPE_CHECKING:
    from rich.console import Console


_LEAST_FOR_COLUMNS = 32


class PlainDisplay(Callback):
    """Lines for logs: one an epoch, but no more than one a second, and one within a long epoch now and then."""

    def __init__(self, facts: RunFacts, every_s: float, news: News | None = None) -> None:
        self._facts, self._every_s, self._news = facts, every_s, news or News()
        self._pace = Pace(facts)
        self._last = time.monotonic()
        self._named: set[int] = set()
        """The ranks that were named as slow, each once."""

    def on_train_begin(self, epoch: int, replica: Replica) -> None:
        """Print the heading."""
        self._pace.start(epoch)
        for line in self._facts.lines():
            write_line(line)

    def on_step(self, step_in_epoch: int) -> None:
        """Print a line if the last one is long ago."""
        self._pace.step(step_in_epoch)
        now = time.monotonic()
        if self._every_s and now - self._last >= self._every_s and step_in_epoch < self._facts.steps_per_epoch:
            loss, rate = self._news.loss(), self._pace.samples_per_s()
            values = [f"step {step_in_epoch}/{self._facts.steps_per_epoch}"]
            values += [] if loss is None else [f"loss {loss:.4f}"]
            self._write(self._pace.epoch + 1, values, rate, self._pace.left(step_in_epoch))

    def on_epoch_end(self, report: EpochReport, replica: Replica, control: Control) -> None:
        """Print the epoch's values: for the first, the last, and at most one a second between."""
        self._pace.end_epoch()
        now = time.monotonic()
        if report.epoch in (1, self._facts.epochs) or control.finish or now - self._last >= 1.0:
            left = None if control.finish else self._pace.left(0)
            self._write(report.epoch, pairs(report.values), report.samples_per_s, left or None)
        if control.finish:
            write_line(f"training ends here: {control.finish}")

    def _write(self, epoch: int, values: Sequence[str], rate: float | None, left: float | None) -> None:
        self._last = time.monotonic()
        speed = [] if rate is None else [f"{rate:,.0f} samples/s"]
        speed += [] if left is None else [f"left {duration(left)}"]
        write_line("  ".join([f"epoch {epoch}/{self._facts.epochs}", *values, *speed]))
        slowest = self._news.slowest()
        if slowest is not None and slowest.rank not in self._named:
            self._named.add(slowest.rank)
            write_line(f"note: {slowest}")


def make_display(choice: str, facts: RunFacts, every_s: float, news: News | None = None) -> Callback | None:
    """Return rank 0's display for ``run.display``, or None for a quiet run."""
    terminal = terminal_path()
    if choice == "quiet":
        return None
    dumb = os.environ.get("TERM", "").lower() in ("dumb", "unknown")  # it can't go back to draw anew
    if not dumb and (choice == "live" or (choice == "auto" and terminal is not None)):
        return LiveDisplay(facts, rich_console(terminal), news, terminal)
    return PlainDisplay(facts, every_s, news)


def rich_console(terminal: str | None) -> Console:
    """Return a console for standard output, sized and coloured as the terminal behind it."""
    from rich.console import Console

    file = cast(TextIO, beneath_display())
    if terminal is None:
        return Console(file=file, width=100)
    columns, lines = terminal_size(terminal)
    return Console(file=file, force_terminal=True, width=columns, height=lines)


def print_results(title: str, rows: Mapping[str, Any]) -> None:
    """Print names and values: a table with lines in a terminal, a plain one elsewhere, and none where it is narrow."""
    from rich.table import Table

    terminal = terminal_path()
    console = rich_console(terminal)
    words = {name: _in_words(value) for name, value in rows.items()}
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


def _in_words(value: Any) -> str:
    """Return a value as text; a confusion matrix row by row."""
    if getattr(value, "ndim", 0) == 2:
        width = len(f"{value.max():.0f}")
        return "\n".join(" ".join(f"{count:{width}.0f}" for count in row) for row in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)

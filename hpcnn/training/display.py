"""What rank 0 shows: a live display in a terminal, plain lines elsewhere, and a table at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpcnn.training.callbacks import Callback, Control, EpochReport
from hpcnn.training.console import terminal_path, terminal_size
from hpcnn.training.metrics import scalars
from hpcnn.training.replica import Replica

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class RunFacts:
    """What a display says of a run beforehand."""

    job: str
    folder: str
    ranks: int
    hosts: int
    shards: int
    samples: int
    validation_samples: int
    parameters: int
    batch_size: int
    steps_per_epoch: int
    epochs: int

    def lines(self) -> list[str]:
        """Return the heading."""
        held = f" + {self.validation_samples:,} for validation" if self.validation_samples else ""
        ranks = f"{_counted(self.ranks, 'rank')} on {_counted(self.hosts, 'node')}"
        return [
            f"{self.job}: {ranks}, {_counted(self.shards, 'gradient shard')}, results in {self.folder}",
            f"{_counted(self.samples, 'sample')}{held}, {_counted(self.parameters, 'parameter')}, "
            f"{_counted(self.epochs, 'epoch')} of {_counted(self.steps_per_epoch, 'step')}, "
            f"batches of {self.batch_size}",
        ]


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' * (n != 1)}"


def _columns(values: Mapping[str, Any]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in scalars(values).items())


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class _Pace:
    """How fast it goes, and how long it will take."""

    def __init__(self, facts: RunFacts) -> None:
        self._facts = facts
        self._begin = time.monotonic()
        self._epoch = self._done_at_begin = 0
        self._stepped = False

    def start(self, epoch: int) -> None:
        self._begin, self._epoch = time.monotonic(), epoch
        self._done_at_begin = epoch * self._facts.steps_per_epoch

    def step(self, step_in_epoch: int) -> None:
        if not self._stepped:  # a resumed run may begin within an epoch
            self._done_at_begin += step_in_epoch - 1
            self._stepped = True

    def left(self, step_in_epoch: int) -> float | None:
        """Return the seconds left, or None while there is nothing to judge by."""
        steps = self._facts.steps_per_epoch
        done = self._epoch * steps + step_in_epoch - self._done_at_begin
        if done <= 0:
            return None
        total = self._facts.epochs * steps - self._done_at_begin
        return (time.monotonic() - self._begin) / done * (total - done)

    def end_epoch(self) -> None:
        self._epoch += 1

    @property
    def epoch(self) -> int:
        return self._epoch


class PlainDisplay(Callback):
    """Lines for logs: one an epoch, but no more than a few a second, and one within a long epoch now and then."""

    def __init__(self, facts: RunFacts, every_s: float) -> None:
        self._facts, self._every_s = facts, every_s
        self._pace = _Pace(facts)
        self._last = time.monotonic()

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
            self._last = now
            left = self._pace.left(step_in_epoch)
            write_line(
                f"epoch {self._pace.epoch + 1}/{self._facts.epochs}  step {step_in_epoch}/{self._facts.steps_per_epoch}"
                + (f"  left {_duration(left)}" if left is not None else "")
            )

    def on_epoch_end(self, report: EpochReport, replica: Replica, control: Control) -> None:
        """Print the epoch's values: for the first, the last, and at most one a second between."""
        self._pace.end_epoch()
        now = time.monotonic()
        if report.epoch in (1, self._facts.epochs) or control.finish or now - self._last >= 1.0:
            self._last = now
            left = None if control.finish else self._pace.left(0)
            write_line(
                f"epoch {report.epoch}/{self._facts.epochs}  {_columns(report.values)}  "
                f"{report.samples_per_s:,.0f} samples/s" + (f"  left {_duration(left)}" if left else "")
            )
        if control.finish:
            write_line(f"training ends here: {control.finish}")


class LiveDisplay(Callback):
    """Two progress bars and the newest values, redrawn in place."""

    def __init__(self, facts: RunFacts, console: Console) -> None:
        from rich.live import Live

        self._facts, self._console = facts, console
        self._pace = _Pace(facts)
        self._report: EpochReport | None = None
        self._step = 0
        self._drawn = 0.0
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def on_train_begin(self, epoch: int, replica: Replica) -> None:
        """Print the heading and start to draw."""
        self._pace.start(epoch)
        for line in self._facts.lines():
            self._console.print(line, highlight=False, markup=False)
        self._live.start()
        self._draw(force=True)

    def on_step(self, step_in_epoch: int) -> None:
        """Redraw, ten times a second at most."""
        self._pace.step(step_in_epoch)
        self._step = step_in_epoch
        self._draw()

    def on_epoch_end(self, report: EpochReport, replica: Replica, control: Control) -> None:
        """Take the new values."""
        self._report, self._step = report, 0
        self._pace.end_epoch()
        self._draw()
        if control.finish:
            self._console.print(f"training ends here: {control.finish}", highlight=False, markup=False)

    def close(self) -> None:
        """Stop drawing and leave the terminal as it was."""
        self._live.stop()

    def _draw(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if force or now - self._drawn >= 0.1:
            self._drawn = now
            self._live.update(self._picture(), refresh=True)

    def _picture(self) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        facts, epoch = self._facts, min(self._pace.epoch, self._facts.epochs)
        bars = Table.grid(padding=(0, 1), expand=False)
        width = max(10, min(40, self._console.width - 30))
        for name, done, total in (("epoch", epoch, facts.epochs), ("step", self._step, facts.steps_per_epoch)):
            bars.add_row(name, ProgressBar(total=total, completed=done, width=width), f"{done}/{total}")
        left = self._pace.left(self._step)
        speed = f"{self._report.samples_per_s:,.0f} samples/s" if self._report else "starting"
        clock = f"   left {_duration(left)}" if left is not None else ""
        values = _columns(self._report.values) if self._report else ""
        return Group(bars, Text(values, style="bold"), Text(f"{speed}{clock}", style="dim"))


def make_display(choice: str, facts: RunFacts, every_s: float) -> Callback | None:
    """Return rank 0's display for ``run.display``, or None for a quiet run."""
    terminal = terminal_path()
    if choice == "quiet":
        return None
    if choice == "live" or (choice == "auto" and terminal is not None):
        return LiveDisplay(facts, rich_console(terminal))
    return PlainDisplay(facts, every_s)


def rich_console(terminal: str | None) -> Console:
    """Return a console for standard output, sized and coloured as the terminal behind it."""
    from rich.console import Console

    if terminal is None:
        return Console(width=100)
    columns, lines = terminal_size(terminal)
    return Console(force_terminal=True, width=columns, height=lines)


def print_results(title: str, rows: Mapping[str, Any]) -> None:
    """Print a table of names and values: with lines in a terminal, plain elsewhere."""
    from rich.table import Table

    terminal = terminal_path()
    console = rich_console(terminal)
    table = Table(show_header=False)
    if terminal is None:
        table.box = None
    for name, value in rows.items():
        table.add_row(name, f"{value:.6g}" if isinstance(value, float) else str(value))
    console.print(title, highlight=False, markup=False)
    console.print(table, highlight=False, markup=False)


def write_line(text: str) -> None:
    """Print one line in one piece: launchers mix what ranks write."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()

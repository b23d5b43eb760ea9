"""The display of a run as plain lines, for logs."""

from __future__ import annotations

import time
from collections.abc import Sequence

from hpcnn.core.formatting import duration
from hpcnn.runs.run_info import News, Pace, RunInfo, pairs
from hpcnn.system.output import write_line
from hpcnn.training.callbacks import Callback, Control, EpochReport
from hpcnn.training.replica import Replica


class PlainDisplay(Callback):
    """Lines for logs: one an epoch, but no more than one a second, and one within a long epoch now and then."""

    def __init__(self, facts: RunInfo, every_s: float, news: News | None = None) -> None:
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

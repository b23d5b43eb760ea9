"""The display of a run as plain lines, for logs."""

from __future__ import annotations

import time
from collections.abc import Sequence

from hpcnn.core.formatting import duration, four_digits
from hpcnn.runs.run_info import LiveStatus, metric_items
from hpcnn.system.output import write_line
from hpcnn.training.callbacks import Callback, Control, EpochReport, StepReport
from hpcnn.training.replica import Replica


class PlainDisplay(Callback):
    """Prints one line per epoch, but at most one per second, and a line every `every_s` seconds within long epochs."""

    def __init__(self, status: LiveStatus, every_s: float) -> None:
        self._status, self._every_s = status, every_s
        self._last = time.monotonic()
        self._named: set[int] = set()
        """The stragglers that were named, each once."""

    def on_train_begin(self, epoch: int, replica: Replica) -> None:
        """Print the heading."""
        self._status.start()
        for line in self._status.info.lines():
            write_line(line)

    def on_step(self, report: StepReport) -> None:
        """Print a line if the last one is `every_s` seconds old."""
        status, steps = self._status, self._status.info.steps_per_epoch
        due = self._every_s and time.monotonic() - self._last >= self._every_s
        if due and report.step_in_epoch < steps:
            loss = status.loss()
            values = [f"step {report.step_in_epoch}/{steps}", *([] if loss is None else [f"loss {four_digits(loss)}"])]
            self._write(status.progress.epoch + 1, values, status.samples_per_s(1.0), status.seconds_left())

    def on_epoch_end(self, report: EpochReport, replica: Replica, control: Control) -> None:
        """Print the values of the first epoch, of the last, and of at most one per second between them."""
        self._status.start_window()
        if report.epoch in (1, self._status.info.epochs) or control.reason or time.monotonic() - self._last >= 1.0:
            left = None if control.reason else self._status.seconds_left()
            self._write(report.epoch, metric_items(report.values), report.samples_per_s, left or None)
        if control.reason:
            write_line(f"training ends here: {control.reason}")

    def _write(self, epoch: int, values: Sequence[str], rate: float | None, left_s: float | None) -> None:
        self._last = time.monotonic()
        speed = [] if rate is None else [f"{rate:,.0f} samples/s"]
        speed += [] if left_s is None else [f"left {duration(left_s)}"]
        write_line("  ".join([f"epoch {epoch}/{self._status.info.epochs}", *values, *speed]))
        straggler = self._status.straggler()
        if straggler is not None and straggler.rank not in self._named:
            self._named.add(straggler.rank)
            write_line(f"note: {straggler}")

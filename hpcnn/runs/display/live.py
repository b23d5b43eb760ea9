"""The display in a terminal: two bars and the newest values, redrawn in place and as wide as the terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hpcnn.core.formatting import duration, four_digits
from hpcnn.runs.run_info import LiveStatus, metric_items
from hpcnn.system.terminal import terminal_size
from hpcnn.training.callbacks import Callback, Control, EpochReport, StepReport
from hpcnn.training.replica import Replica

if TYPE_CHECKING:
    from rich.console import Console

_WIDEST_BAR, _NARROWEST_BAR = 40, 5
_COLOUR = "green"
_GAP = "  "
"""Between two values in a row."""


class LiveDisplay(Callback):
    """Shows how far the run is, ten times per second at most, as wide as `terminal`, the device behind `console`."""

    def __init__(self, status: LiveStatus, console: Console, terminal: str | None = None) -> None:
        from rich.live import Live

        self._status, self._console, self._terminal = status, console, terminal
        self._report: EpochReport | None = None
        self._drawn = 0.0
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def on_train_begin(self, epoch: int, replica: Replica) -> None:
        """Print the heading and start to draw."""
        self._status.start()
        for line in self._status.info.lines():
            self._console.print(line, highlight=False, markup=False)
        self._live.start()
        self._draw(force=True)

    def on_step(self, report: StepReport) -> None:
        """Redraw, at most ten times per second."""
        self._draw()

    def on_epoch_end(self, report: EpochReport, replica: Replica, control: Control) -> None:
        """Show the values of the epoch from now on."""
        self._report = report
        self._status.start_window()
        self._draw()
        if control.reason:
            self._console.print(f"training ends here: {control.reason}", highlight=False, markup=False)

    def close(self) -> None:
        """Stop drawing and restore the terminal."""
        self._live.stop()

    def _draw(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if force or now - self._drawn >= 0.1:
            self._drawn = now
            if self._terminal is not None:
                self._console.size = terminal_size(self._terminal)
            self._live.update(self._picture(), refresh=True)

    def _picture(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        width, report, loss = self._console.width, self._report, self._status.loss()
        rows = [("so far", [] if loss is None else [f"loss {four_digits(loss)}"], "bold")]
        if report is not None:
            rows.append((f"epoch {report.epoch}", metric_items(report.values), ""))
        texts = [Text("\n".join(fill(items, width, head)), style) for head, items, style in rows if items]
        texts.append(Text("\n".join(fill(self._speed(), width)), "dim"))
        straggler = self._status.straggler()
        if straggler is not None:
            texts.append(Text(str(straggler), "yellow"))
        return Group(*self._bars(), *texts)

    def _speed(self) -> list[str]:
        rate = self._status.samples_per_s(1.0) or (self._report.samples_per_s if self._report else None)
        left_s = self._status.seconds_left()
        return [
            "starting" if rate is None else f"{rate:,.0f} samples/s",
            *([] if left_s is None else [f"left {duration(left_s)}"]),
            self._status.info.ranks_on_hosts,
        ]

    def _bars(self) -> list[Any]:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        info, progress = self._status.info, self._status.progress
        epoch = min(progress.epoch, info.epochs)
        rows = [("epoch", epoch, info.epochs), ("step", progress.step_in_epoch, info.steps_per_epoch)]
        counts = [f"{done}/{total}" for _, done, total in rows]
        width = min(_WIDEST_BAR, self._console.width - len("epoch") - max(map(len, counts)) - 3)
        if width < _NARROWEST_BAR:
            return [Text(f"{name:5} {count}") for (name, _, _), count in zip(rows, counts, strict=True)]
        table = Table.grid(padding=(0, 1), expand=False)
        for (name, done, total), count in zip(rows, counts, strict=True):
            bar = ProgressBar(total, done, width=width, complete_style=_COLOUR, finished_style=_COLOUR)
            table.add_row(name, bar, count)
        return [table]


def fill(items: Sequence[str], width: int, head: str = "") -> list[str]:
    """Return lines of whole `items`, each filled as far as `width` allows; the first begins with `head`.

    >>> fill(["loss 0.1", "accuracy 0.9", "val_loss 0.2"], 24, "epoch 1")
    ['epoch 1  loss 0.1', 'accuracy 0.9', 'val_loss 0.2']
    """
    lines = [head] if head else []
    for item in items:
        if lines and len(lines[-1]) + len(_GAP) + len(item) <= width:
            lines[-1] += _GAP + item
        else:
            lines.append(item)
    return lines

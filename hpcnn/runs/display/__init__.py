"""What rank 0 shows of a run: a live display in a terminal, plain lines elsewhere."""

from __future__ import annotations

import os

from hpcnn.runs.display.console import rich_console
from hpcnn.runs.display.live import LiveDisplay
from hpcnn.runs.display.plain import PlainDisplay
from hpcnn.runs.run_info import News, RunInfo
from hpcnn.system.terminal import terminal_path
from hpcnn.training.callbacks import Callback


def make_display(choice: str, facts: RunInfo, every_s: float, news: News | None = None) -> Callback | None:
    """Return rank 0's display for ``run.display``, or None for a quiet run."""
    terminal = terminal_path()
    if choice == "quiet":
        return None
    dumb = os.environ.get("TERM", "").lower() in ("dumb", "unknown")  # it can't go back to draw anew
    if not dumb and (choice == "live" or (choice == "auto" and terminal is not None)):
        return LiveDisplay(facts, rich_console(terminal), news, terminal)
    return PlainDisplay(facts, every_s, news)

"""What rank 0 shows of a run: a live display in a terminal, plain lines elsewhere."""

from __future__ import annotations

import os

from hpcnn.runs.display.console import rich_console
from hpcnn.runs.display.live import LiveDisplay
from hpcnn.runs.display.plain import PlainDisplay
from hpcnn.runs.run_info import LiveStatus
from hpcnn.system.terminal import terminal_path


def make_display(choice: str, status: LiveStatus, every_s: float) -> LiveDisplay | PlainDisplay | None:
    """Return rank 0's display for ``run.display``, or None for a quiet run."""
    terminal = terminal_path()
    if choice in ("quiet", "none"):
        return None
    dumb = os.environ.get("TERM", "").lower() in ("dumb", "unknown")  # it can't move the cursor back to redraw
    if not dumb and (choice == "live" or (choice == "auto" and terminal is not None)):
        return LiveDisplay(status, rich_console(terminal), terminal)
    return PlainDisplay(status, every_s)

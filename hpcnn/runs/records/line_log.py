"""Lines that a run adds to a file: those that can't be written wait, and come in order once they can."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hpcnn.errors import CheckpointError
from hpcnn.system.output import write_line

Line = Mapping[str, Any]


class LineLog:
    """The lines of one file, on a rank that writes it now, or may do so once others are lost.

    Args:
        name: of the file.
        append: adds lines to it: all of them or, with an OSError, none.
    """

    def __init__(self, name: str, append: Callable[..., object]) -> None:
        self.name, self._append = name, append
        self.waiting: list[Line] = []
        """Lines that are not written, or of which this rank does not know."""
        self.trouble = ""
        """Why there are some, where this rank writes."""

    def keep(self, count: int) -> None:
        """Forget all lines but the last `count`: those before are written."""
        self.waiting = self.waiting[max(0, len(self.waiting) - count) :]

    def write(self, prepare: Callable[[], Sequence[Line]] | None = None) -> None:
        """Write what waits. Say so when this fails, and when it succeeds again.

        Args:
            prepare: brings the file up to date before, and returns which of the lines are to be added.
        """
        try:
            if prepare is not None:
                self.waiting = list(prepare())
            if self.waiting:
                self._append(*self.waiting)
        except (OSError, CheckpointError) as error:
            if not self.trouble:
                write_line(
                    f"warning: {self.name} can't be written ({error}); training goes on, its lines wait in memory, "
                    "and it is tried again"
                )
            self.trouble = str(error)
            return
        if self.trouble:
            write_line(f"{self.name} is written again: {len(self.waiting)} lines that had waited")
        self.waiting, self.trouble = [], ""

"""Lines that a run appends to a file: those that can't be written wait in memory, and are written once they can."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hpcnn.errors import CheckpointError
from hpcnn.system.output import write_line

Line = Mapping[str, Any]


class LineLog:
    """The lines of one file, on a rank that writes it, or may do so once other ranks are lost.

    Args:
        name: of the file.
        append: appends lines to it: all of them or, with an OSError, none.
    """

    def __init__(self, name: str, append: Callable[..., object]) -> None:
        self.name, self._append = name, append
        self.waiting: list[Line] = []
        """Lines that are not written yet, as far as this rank knows."""
        self.trouble = ""
        """Why the last write failed, on the rank that writes."""

    def keep(self, count: int) -> None:
        """Forget all but the last `count` lines: the others are written."""
        self.waiting = self.waiting[max(0, len(self.waiting) - count) :]

    def write(self, prepare: Callable[[], Sequence[Line]] | None = None) -> None:
        """Write the waiting lines; print the first failure, and the next success.

        Args:
            prepare: called first; updates the file, and returns the lines to append.
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

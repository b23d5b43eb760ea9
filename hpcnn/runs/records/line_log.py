"""Lines that a run appends to a file: those that can't be written wait in memory, and are written once they can."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hpcnn.errors import CheckpointError
from hpcnn.system.output import write_line

Line = Mapping[str, Any]


class LineLog:
    """The lines of one file, on a rank that writes it, or may do so once other ranks are lost."""

    def __init__(self, path: Path) -> None:
        self._path, self.name = path, path.name
        self.waiting: list[Line] = []
        """Lines that are not written yet, as far as this rank knows."""
        self.trouble = ""
        """Why the last write failed, on the rank that writes."""

    def keep(self, count: int) -> None:
        """Forget all but the last `count` lines: the others are written."""
        self.waiting = self.waiting[max(0, len(self.waiting) - count) :]

    def write(self, prepare: Callable[[], Sequence[Line]] | None = None) -> None:
        """Write the waiting lines, which `prepare` sets if given; print the first failure, and the next success."""
        try:
            if prepare is not None:
                self.waiting = list(prepare())
            if self.waiting:
                append_lines(self._path, *self.waiting)
        except (OSError, CheckpointError) as error:
            if not self.trouble:
                write_line(
                    f"warning: {self.name} can't be written ({error}); training continues, its lines wait in memory, "
                    "and it is tried again"
                )
            self.trouble = str(error)
            return
        if self.trouble:
            write_line(f"{self.name} is written again: {len(self.waiting)} lines that had waited")
        self.waiting, self.trouble = [], ""


def append_lines(path: Path, *lines: Line) -> None:
    """Append lines of JSON to a file: all of them or, with an OSError, none."""
    with path.open("ab+", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        cut_off = file.read() not in (b"", b"\n")  # by a crash
        rest = memoryview(b"\n" * cut_off + b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except OSError:  # a full disk, for example, may have taken a part
            with suppress(OSError):
                file.truncate(size)
            raise

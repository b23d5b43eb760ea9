"""The logger for ``metrics.csv``: one line per epoch, for spreadsheets and pandas."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from hpcnn.job.schema import Job
from hpcnn.runs.loggers.logger import Line, Logger
from hpcnn.runs.run_folder import RunFolder
from hpcnn.system.atomic import write_text


class CsvLogger(Logger):
    """Writes one column per value that is a single number; a value that is not defined is empty."""

    def __init__(self, job: Job, folder: RunFolder) -> None:
        super().__init__(job, folder)
        self._columns: list[str] = []

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder.path / "metrics.csv"

    def open(self, lines: Sequence[Line]) -> None:
        """Rewrite the file with the epochs so far."""
        if lines:
            write_text(self.path, self._text(lines))
        else:
            self.path.unlink(missing_ok=True)

    def log(self, line: Line) -> None:
        """Append the epoch."""
        text = self._text([line])
        with self.path.open("a", encoding="utf-8", newline="") as file:
            file.write(text)

    def _text(self, lines: Iterable[Line]) -> str:
        text = io.StringIO(newline="")
        for line in lines:
            first = not self._columns
            self._columns = self._columns or [name for name, value in line.items() if not isinstance(value, list)]
            writer = csv.DictWriter(text, self._columns, extrasaction="ignore", lineterminator="\n")
            if first:
                writer.writeheader()
            writer.writerow(line)
        return text.getvalue()

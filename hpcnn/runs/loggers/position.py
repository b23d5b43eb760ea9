"""The position of a log at another service, kept in the run folder, so that a resumed run continues the same log."""

from __future__ import annotations

import json
from pathlib import Path

from hpcnn.system.atomic import write_text


class LogPosition:
    """The id that the service gave the log, and the last epoch that was logged.

    Args:
        path: of the file.
        place: address of the service. The position of a log at another address is ignored.
    """

    def __init__(self, path: Path, place: str = "") -> None:
        self._path, self._place = path, place
        self.run_id, self.epoch = "", 0
        if path.exists():
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored.get("place", "") == place:
                self.run_id, self.epoch = str(stored["run_id"]), int(stored["epoch"])

    def write(self, run_id: str, epoch: int) -> None:
        """Store both."""
        self.run_id, self.epoch = run_id, epoch
        place = {"place": self._place} if self._place else {}
        write_text(self._path, json.dumps({"run_id": run_id, "epoch": epoch, **place}) + "\n")

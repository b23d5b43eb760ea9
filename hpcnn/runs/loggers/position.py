"""What a logger that writes elsewhere keeps in the run folder, so that a resumed run goes on with the same log."""

from __future__ import annotations

import json
from pathlib import Path

from hpcnn.system.atomic import write_text


class LogPosition:
    """The name that the other side gave the log, and the last epoch that it was handed.

    Args:
        path: of the file.
        place: where the log is. A note of a log in another place counts for nothing.
    """

    def __init__(self, path: Path, place: str = "") -> None:
        self._path, self._place = path, place
        self.run_id, self.epoch = "", 0
        if path.exists():
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept.get("place", "") == place:
                self.run_id, self.epoch = str(kept["run_id"]), int(kept["epoch"])

    def write(self, run_id: str, epoch: int) -> None:
        """Keep both."""
        self.run_id, self.epoch = run_id, epoch
        place = {"place": self._place} if self._place else {}
        write_text(self._path, json.dumps({"run_id": run_id, "epoch": epoch, **place}) + "\n")

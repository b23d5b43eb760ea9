"""What a logger that writes elsewhere keeps in the run folder, so that a resumed run goes on with the same log."""

from __future__ import annotations

import json
from pathlib import Path

from hpcnn.atomic import write_text


class Note:
    """The name that the other side gave the log, and the last epoch that it was handed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.run_id, self.epoch = "", 0
        if path.exists():
            kept = json.loads(path.read_text(encoding="utf-8"))
            self.run_id, self.epoch = str(kept["run_id"]), int(kept["epoch"])

    def write(self, run_id: str, epoch: int) -> None:
        """Keep both."""
        self.run_id, self.epoch = run_id, epoch
        write_text(self._path, json.dumps({"run_id": run_id, "epoch": epoch}) + "\n")

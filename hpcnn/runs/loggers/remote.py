"""The base of loggers for services that keep the log themselves, so that a resumed run continues the same log."""

from __future__ import annotations

import json
from abc import abstractmethod
from pathlib import Path

from hpcnn.runs.loggers.logger import Line, Logger
from hpcnn.system.atomic import write_text


class RemoteLogger(Logger):
    """A logger that keeps the id of its log, and the last epoch in it, in a file of the run folder."""

    run_id, logged_epoch, _address = "", 0, ""

    def resume(self, address: str = "") -> None:
        """Read the id and the epoch; those of a log at another `address` are ignored."""
        self._address = address
        if self._file.exists():
            stored = json.loads(self._file.read_text(encoding="utf-8"))
            if stored.get("place", "") == address:
                self.run_id, self.logged_epoch = str(stored["run_id"]), int(stored["epoch"])

    def store(self, run_id: str, epoch: int) -> None:
        """Store the id and the epoch."""
        self.run_id, self.logged_epoch = run_id, epoch
        place = {"place": self._address} if self._address else {}
        write_text(self._file, json.dumps({"run_id": run_id, "epoch": epoch, **place}) + "\n")

    def log(self, line: Line) -> None:
        """Log the epoch, unless that was done before the run was resumed: its values are the same."""
        if line["epoch"] > self.logged_epoch:
            self.send(line)
            self.store(self.run_id, line["epoch"])

    @abstractmethod
    def send(self, line: Line) -> None:
        """Send the values of an epoch to the service."""

    @property
    def _file(self) -> Path:
        return self.folder.path / f"{self.package}.json"

"""The logger for Weights & Biases: to files in the run folder, unless WANDB_MODE says otherwise."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from typing import Any

from hpcnn.job.dump import flat_settings
from hpcnn.job.schema import Job
from hpcnn.runs.loggers.logger import Line, single_values
from hpcnn.runs.loggers.remote import RemoteLogger
from hpcnn.runs.run_folder import RunFolder


class WandbLogger(RemoteLogger):
    """Logs the settings as the run's config, the values of each epoch, and the SHA-256 of the weights in its summary.

    Offline, each resume adds a folder of the same run below ``wandb/``; ``wandb sync`` joins them.
    """

    package = "wandb"

    def __init__(self, job: Job, folder: RunFolder) -> None:
        super().__init__(job, folder)
        self._run: Any = None

    def open(self, lines: Sequence[Line]) -> None:
        """Start a run of W&B, or resume the one of this run folder."""
        import wandb

        self.resume()
        if not self.run_id:
            self.store(uuid.uuid4().hex[:8], 0)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or "hpcnn",
            name=self.job.name or None,
            id=self.run_id,
            resume="allow",
            dir=str(self.folder.path),
            mode=os.environ.get("WANDB_MODE") or "offline",
            config=flat_settings(self.job),
            settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False),
        )
        for line in lines:
            self.log(line)

    def send(self, line: Line) -> None:
        """Log the values of the epoch."""
        self._run.log({**single_values(line), "epoch": line["epoch"]}, step=line["epoch"])

    def finish(self, weights_sha256: str) -> None:
        """Add the result to the summary."""
        self._run.summary["weights_sha256"] = weights_sha256

    def close(self) -> None:
        """Finish the run of W&B."""
        if self._run is not None:
            self._run.finish()

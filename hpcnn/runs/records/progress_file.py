"""``progress.json`` in the run folder: how far the training is, for ``hpcnn status``."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from hpcnn.runs.run_info import LiveStatus
from hpcnn.system.atomic import temporary_path
from hpcnn.system.output import losses, write_line
from hpcnn.training.callbacks import Callback, Control, EpochReport, StepReport
from hpcnn.training.metrics import plain_values, scalars
from hpcnn.training.replica import Replica

EVERY_S = 5.0
"""Seconds between two writes."""
EPOCH_GAP_S = 1.0
"""No write at the end of an epoch within this time of the last one: short epochs must not be spent on writing."""
_SLURM = {"job_id": "SLURM_JOB_ID", "restarts": "SLURM_RESTART_COUNT"}


class ProgressFile(Callback):
    """Writes `progress.json`. For rank 0 alone.

    The file is written without a sync, and a full disk stops nothing: nothing resumes from it.
    """

    def __init__(self, path: Path, status: LiveStatus) -> None:
        self._path, self._status = path, status
        self._written = time.monotonic()
        self._samples_per_s: float | None = None
        self._warned = False

    def on_train_begin(self, epoch: int, replica: Replica) -> None:
        """Write the state that the training starts from."""
        self._status.start()
        self.write()

    def on_step(self, report: StepReport) -> None:
        """Write if the last write is `EVERY_S` ago."""
        if time.monotonic() - self._written >= EVERY_S:
            self.write()

    def on_epoch_end(self, report: EpochReport, replica: Replica, control: Control) -> None:
        """Write the epoch's values, unless the last write is younger than `EPOCH_GAP_S`."""
        if time.monotonic() - self._written >= EPOCH_GAP_S:
            self.write()

    def write(self) -> None:
        """Write the current state; warn of the first failure only."""
        temporary = temporary_path(self._path)
        try:
            temporary.write_text(json.dumps(self._content()) + "\n", encoding="utf-8")
            temporary.replace(self._path)
        except OSError as error:
            if not self._warned:
                write_line(f"warning: {self._path.name} can't be written ({error}); training continues")
            self._warned = True
            with suppress(OSError):
                temporary.unlink()

    def _content(self) -> dict[str, Any]:
        status, progress, info = self._status, self._status.progress, self._status.info
        self._samples_per_s = status.samples_per_s() or self._samples_per_s
        self._written = time.monotonic()
        status.start_window()
        loss = status.loss() if progress.step_in_epoch else plain_values(progress.values).get("loss")
        return {
            "time": time.time(),
            "epoch": progress.epoch,
            "epochs": info.epochs,
            "step": progress.step,
            "steps": info.epochs * info.steps_per_epoch,
            "loss": loss,
            "values": plain_values(scalars(progress.values)),
            "samples_per_s": self._samples_per_s,
            "left_s": status.seconds_left(),
            "ranks": info.ranks,
            "hosts": info.hosts,
            "pid": os.getpid(),
            **({"lost_output": lost} if (lost := losses()) else {}),
            **{key: os.environ[name] for key, name in _SLURM.items() if name in os.environ},
        }

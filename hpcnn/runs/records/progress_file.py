"""A small file in the run folder that says where the training stands: what `hpcnn status` shows of it."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from hpcnn.runs.run_info import RunInfo
from hpcnn.system.atomic import temporary_path
from hpcnn.system.output import losses, write_line
from hpcnn.training.callbacks import Callback, Control, EpochReport
from hpcnn.training.metrics import plain_values, scalars
from hpcnn.training.replica import Replica
from hpcnn.training.trainer import Progress

EVERY_S = 5.0
"""Seconds between two writes."""
EPOCH_GAP_S = 1.0
"""An epoch ends without a write if the last one is younger: short epochs would else be spent on writing."""
_SLURM = {"job_id": "SLURM_JOB_ID", "restarts": "SLURM_RESTART_COUNT"}


class ProgressFile(Callback):
    """Writes `progress.json`. For rank 0 alone.

    It is a trace, not a record: it is written without a sync, and a disk that is full stops nothing.

    Args:
        path: of the file.
        facts: of the run.
        progress: of the training; it grows.
    """

    def __init__(self, path: Path, facts: RunInfo, progress: Progress) -> None:
        self._path, self._facts, self._progress = path, facts, progress
        self._begin = self._written = time.monotonic()
        self._first_step = self._written_step = progress.step
        self._samples_per_s: float | None = None
        self._warned = False

    def on_train_begin(self, epoch: int, replica: Replica) -> None:
        """Write where the training starts from."""
        self._replica = replica
        self._begin = time.monotonic()
        self.write()

    def on_step(self, step_in_epoch: int) -> None:
        """Write if the last time is long ago."""
        if time.monotonic() - self._written >= EVERY_S:
            self.write()

    def on_epoch_end(self, report: EpochReport, replica: Replica, control: Control) -> None:
        """Write the epoch's values, unless the last time is a moment ago."""
        if time.monotonic() - self._written >= EPOCH_GAP_S:
            self.write()

    def write(self) -> None:
        """Write where the training stands now. What fails is said once."""
        temporary = temporary_path(self._path)
        try:
            temporary.write_text(json.dumps(self._content()) + "\n", encoding="utf-8")
            temporary.replace(self._path)
        except OSError as error:
            if not self._warned:
                write_line(f"warning: {self._path.name} can't be written ({error}); training goes on")
            self._warned = True
            with suppress(OSError):
                temporary.unlink()

    def _content(self) -> dict[str, Any]:
        progress, facts = self._progress, self._facts
        now = time.monotonic()
        steps = facts.epochs * facts.steps_per_epoch
        if now > self._written and progress.step > self._written_step:
            rate = (progress.step - self._written_step) / (now - self._written)
            self._samples_per_s = rate * facts.samples / facts.steps_per_epoch
        self._written, self._written_step = now, progress.step
        done = progress.step - self._first_step
        left_s = (now - self._begin) / done * (steps - progress.step) if done else None
        return {
            "time": time.time(),
            "epoch": progress.epoch,
            "epochs": facts.epochs,
            "step": progress.step,
            "steps": steps,
            "loss": self._loss(),
            "values": plain_values(scalars(progress.values)),
            "samples_per_s": self._samples_per_s,
            "left_s": left_s,
            "ranks": facts.ranks,
            "hosts": facts.hosts,
            "pid": os.getpid(),
            **({"lost_output": lost} if (lost := losses()) else {}),
            **{key: os.environ[name] for key, name in _SLURM.items() if name in os.environ},
        }

    def _loss(self) -> float | None:
        """Return the loss over the current epoch so far, or else over the last one."""
        progress = self._progress
        values = self._replica.layout.values(progress.totals) if progress.step_in_epoch else progress.values
        loss: float | None = plain_values(values).get("loss")
        return loss

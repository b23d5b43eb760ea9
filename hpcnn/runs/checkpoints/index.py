"""The checkpoint files of a run: found, ordered, verified."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcnn.errors import CheckpointError
from hpcnn.runs.run_folder import RunFolder
from hpcnn.runs.state import Facts, facts_of
from hpcnn.storage.checkpoint import load_checkpoint, read_facts
from hpcnn.system.output import ERROR, write_line


@dataclass
class CheckpointFile:
    """One file, which may have several names."""

    paths: list[Path]
    size_bytes: int
    age_s: float
    facts: Facts | None = None
    """From its header; None if that is damaged."""
    trouble: str = ""
    """The damage that is known; empty once the file is verified and whole."""

    @property
    def path(self) -> Path:
        """The first of its names."""
        return self.paths[0]

    @property
    def position(self) -> tuple[int, int]:
        """The epoch and step of its state."""
        progress = self.facts.progress if self.facts else None
        return (progress.epoch, progress.step_in_epoch) if progress else (-1, -1)

    @property
    def monitor(self) -> str:
        """The name of the value that decides which checkpoint is the best."""
        if self.facts is None:
            return ""
        run = self.facts.job.get("run")
        chosen = run.get("monitor") if isinstance(run, dict) else ""
        return str(chosen or ("val_loss" if "val_loss" in self.facts.progress.values else "loss"))

    @property
    def value(self) -> float | None:
        """The monitored value at the end of the last epoch."""
        value = self.facts.progress.values.get(self.monitor) if self.facts else None
        return value if isinstance(value, float) else None

    def verify(self) -> str:
        """Read the whole file, and return its damage; empty if there is none."""
        if not self.trouble:
            try:
                load_checkpoint(self.path)
            except CheckpointError as error:
                self.trouble = str(error)
        return self.trouble

    def names(self, run: Path) -> list[str]:
        """Return all its names, relative to the run folder."""
        return [str(path.relative_to(run)) for path in self.paths]

    def as_json(self, run: Path) -> dict[str, Any]:
        """Return the entry of ``hpcnn checkpoints --json``."""
        progress = self.facts.progress if self.facts else None
        return {
            "names": self.names(run),
            "epoch": progress.epoch if progress else None,
            "step": progress.step if progress else None,
            "monitor": self.monitor or None,
            "value": self.value,
            "size_bytes": self.size_bytes,
            "age_s": self.age_s,
            "trouble": self.trouble,
            "verified": not self.trouble,
        }


def find_checkpoints(paths: Iterable[Path]) -> list[CheckpointFile]:
    """Return the files that exist, the newest state first, and before all those that can't be read."""
    files: dict[tuple[int, int], CheckpointFile] = {}
    for path in paths:
        try:
            status = path.stat() if path.exists() else path.lstat()  # of a link to nowhere
        except OSError:
            continue
        key = status.st_dev, status.st_ino
        if key in files:
            files[key].paths.append(path)
            continue
        file = files[key] = CheckpointFile([path], status.st_size, time.time() - status.st_mtime)
        try:
            file.facts = facts_of(read_facts(path))
        except CheckpointError as error:
            file.trouble = str(error)
    return sorted(files.values(), key=lambda file: (bool(file.trouble), file.position), reverse=True)


def verified_checkpoints(run: Path) -> list[CheckpointFile]:
    """Return the files of a run, the newest state first, each verified. CheckpointError: there are none."""
    folder = RunFolder(run)
    files = find_checkpoints([*folder.step_files(), folder.last, folder.best, folder.model])
    if not files:
        what = "there is no run" if not folder.holds_run() else "no checkpoint is there yet of the run"
        raise CheckpointError(f"{what} {str(run)!r}. Give the folder of a run that has saved.")
    for file in files:
        file.verify()
    return files


def newest_that_verifies(folder: RunFolder) -> Path | None:
    """Return the newest whole checkpoint of a run; None if it has none. Warn of damaged ones on standard error.

    If all are damaged that is an error: a new start would overwrite what may still be rescued.
    """
    files = find_checkpoints([*folder.step_files(), folder.last, folder.best])
    for file in files:
        trouble = file.verify()
        if not trouble:
            return file.path
        write_line(f"hpcnn: warning: passed over a checkpoint: {trouble}", ERROR)
    if files:
        raise CheckpointError(
            f"the run {str(folder.path)!r} has {len(files)} checkpoints, and none of them is whole. Resume from "
            "another one by --resume PATH, or start a new run by another --out."
        )
    return None

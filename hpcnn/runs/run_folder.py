"""The run folder: how training reads and writes the files in it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcnn.core.run_paths import RunPaths
from hpcnn.errors import CheckpointError
from hpcnn.job.dump import to_toml
from hpcnn.job.origin import origin_text
from hpcnn.system.atomic import remove_leftovers, write_text


@dataclass(frozen=True)
class RunFolder(RunPaths):
    """The files of one run, and how training reads and writes them."""

    def step_files(self) -> list[Path]:
        """Return the checkpoints that are named by their step, the newest first."""
        return sorted(self.checkpoints.glob("step-*.safetensors"), reverse=True)

    def old_files(self, step: int, keep: int) -> list[Path]:
        """Return the checkpoints that are named by their step, but for the newest `keep` of those up to `step`.

        Those of later steps belong to the time before the run was resumed from an earlier one.
        """
        files: list[Path] = []
        with suppress(OSError):  # the folder may be moved away meanwhile
            files = self.step_files()
        kept = [path for path in files if path.name <= self.at_step(step).name][:keep]
        return [path for path in files if path not in kept]

    def holds_run(self) -> bool:
        """Return whether a run has begun here."""
        files = (self.job, self.metrics, self.result, self.last, self.best, self.model, *self.step_files())
        return any(map(os.path.lexists, files))  # a link to nowhere may be mended

    def is_taken(self) -> bool:
        """Return whether a run has begun here, or is about to."""
        return self.lease.exists() or self.holds_run()

    def begin(self, job: Mapping[str, Any], base: Path = Path()) -> None:
        """Write the resolved job and the origin of its relative paths. For the owner of the lease alone.

        `job` are its settings as `toml_settings` returns them, `base` is the folder that its relative paths start from.
        """
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self.checkpoints)
            ours = (self.job, self.origin, self.metrics, self.time, self.progress, self.result, self.model)
            remove_leftovers(self.path, {path.name for path in (*ours, self.timeline)})
            self.result.unlink(missing_ok=True)  # of a run that is resumed for more epochs
            write_text(self.job, to_toml(job), sync_folder=False)
            write_text(self.origin, origin_text(self.path, base, job))
        except OSError as error:
            raise unwritable(self.path, error) from None

    def read_result(self) -> dict[str, Any] | None:
        """Return the result; None if the run is not complete."""
        try:
            result = json.loads(self.result.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{str(self.result)!r} can't be read ({error}). Delete it to resume the run."
            ) from None
        return dict(result)

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write the result, which marks the run as complete."""
        write_text(self.result, json.dumps(result, indent=2) + "\n")

    def keep_metrics(self, epochs: int) -> int:
        """Delete the lines of epochs after `epochs`, which are about to be done again. Return the last epoch kept."""
        try:
            self.path.stat()  # fails for a folder that is unreachable, which is not one without epochs
            text = self.metrics.read_text(encoding="utf-8") if self.metrics.exists() else ""
            kept = "".join(line + "\n" for line in text.splitlines() if _epoch(line) <= epochs)
            if kept != text:  # also if a crash cut off only the end of the last line
                write_text(self.metrics, kept)
        except (OSError, UnicodeError) as error:
            raise CheckpointError(f"{str(self.metrics)!r} can't be updated ({error}). Fix it, or delete it.") from None
        return int(_epoch(kept.splitlines()[-1])) if kept else 0

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the values of each epoch so far. Lines that a crash cut off are left out."""
        try:
            text = self.metrics.read_text(encoding="utf-8") if self.metrics.exists() else ""
        except (OSError, UnicodeError) as error:
            raise CheckpointError(f"{str(self.metrics)!r} can't be read ({error}). Fix it, or delete it.") from None
        return [values for values in map(_values, text.splitlines()) if values is not None]


def _epoch(line: str) -> float:
    values = _values(line)
    return math.inf if values is None else int(values["epoch"])


def _values(line: str) -> dict[str, Any] | None:
    """Return the values of a line; None if a crash cut it off."""
    try:
        values: dict[str, Any] = json.loads(line)
        int(values["epoch"])
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
    return values


def unwritable(path: Path, error: OSError) -> CheckpointError:
    """Return the error for a run folder that can't be written to."""
    place, where = str(error.filename2 or error.filename or path), f"{str(path)!r} ({error.strerror})"
    blocked = isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError)
    if blocked and place != str(path) and os.path.lexists(place):
        return CheckpointError(
            f"can't write to the run folder {where}: {place!r} is in the way. Move it away, or choose another --out."
        )
    return CheckpointError(f"can't write to the run folder {where}. Choose another --out.")

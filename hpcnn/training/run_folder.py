"""The folder of one run: which one to use, and what training reads and writes in it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from hpcnn.atomic import remove_leftovers, write_text
from hpcnn.errors import CheckpointError
from hpcnn.output import ERROR, write_line
from hpcnn.run_paths import RunPaths, folders_for
from hpcnn.training.found import find_checkpoints


@dataclass(frozen=True)
class RunFolder(RunPaths):
    """The files of one run, and what training does with them."""

    def steps(self) -> list[Path]:
        """Return the states that are named by their step, the newest first."""
        return sorted(self.checkpoints.glob("step-*.safetensors"), reverse=True)

    def drop_old(self, step: int, keep: int) -> None:
        """Keep the newest `keep` states up to `step`. Those of later steps go as well: the run went back behind them.

        What can't be deleted stays.
        """
        newest = self.at_step(step)
        kept = [path for path in self.steps() if path.name <= newest.name][:keep]
        with suppress(OSError):
            for path in set(self.steps()) - set(kept):
                path.unlink()

    def holds_run(self) -> bool:
        """Return whether some run has begun here."""
        files = (self.job, self.metrics, self.result, self.last, self.best, self.model, *self.steps())
        return any(path.exists() for path in files)

    def begin(self, job_toml: str) -> None:
        """Make the folder and write the resolved job."""
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            for folder in (self.path, self.checkpoints):
                remove_leftovers(folder)
            self.result.unlink(missing_ok=True)  # of a run that now trains for more epochs
            write_text(self.job, job_toml)
        except OSError as error:
            raise CheckpointError(
                f"can't write to the run folder {str(self.path)!r} ({error.strerror}). Choose another --out."
            ) from None

    def read_result(self) -> dict[str, Any] | None:
        """Return the result, or None if the run is not complete."""
        try:
            result = json.loads(self.result.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{str(self.result)!r} can't be read ({error}). Delete it to go on.") from None
        return dict(result)

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Mark the run as complete."""
        write_text(self.result, json.dumps(result, indent=2) + "\n")

    def keep_metrics(self, epochs: int) -> int:
        """Drop the lines of epochs after `epochs`: they are about to be done again. Return the last epoch kept."""
        try:
            text = self.metrics.read_text(encoding="utf-8") if self.metrics.exists() else ""
            kept = "".join(line + "\n" for line in text.splitlines() if _epoch(line) <= epochs)
            if kept != text:  # also where a crash cut off no more than the end of the last line
                write_text(self.metrics, kept)
        except (OSError, UnicodeError) as error:
            raise CheckpointError(
                f"{str(self.metrics)!r} can't be brought up to date ({error}). Mend it, or delete it."
            ) from None
        return int(_epoch(kept.splitlines()[-1])) if kept else 0

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return what each epoch came to; nothing before the first. Lines that were cut off are left out."""
        try:
            text = self.metrics.read_text(encoding="utf-8") if self.metrics.exists() else ""
        except (OSError, UnicodeError) as error:
            raise CheckpointError(f"{str(self.metrics)!r} can't be read ({error}). Mend it, or delete it.") from None
        return [json.loads(line) for line in text.splitlines() if _epoch(line) < math.inf]

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Add one epoch."""
        _append(self.metrics, line)

    def append_time(self, line: Mapping[str, Any]) -> None:
        """Add the seconds of all ranks. What a run that went back has done twice took its time twice, and stays."""
        _append(self.time, line)


def _append(path: Path, line: Mapping[str, Any]) -> None:
    with path.open("ab+") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        cut_off = file.read() not in (b"", b"\n")  # by a disk that was full
        file.write(b"\n" * cut_off + json.dumps(line).encode() + b"\n")


def _epoch(line: str) -> float:
    try:
        return int(json.loads(line)["epoch"])
    except (ValueError, KeyError, TypeError, OverflowError):
        return math.inf  # a line cut off by a crash


def new_folder(name: str, out: Path | None) -> RunFolder:
    """Return a folder for a fresh run: `out`, or the first of ``runs/NAME``, ``runs/NAME-2``, ... that is free.

    Raises:
        CheckpointError: `out` holds a run already.
    """
    if out is not None:
        folder = RunFolder(out)
        if folder.holds_run():
            raise CheckpointError(
                f"the output folder {str(out)!r} holds a run already, and nothing is overwritten. "
                "Go on with it by --resume auto, or choose another --out."
            )
        return folder
    return RunFolder(next(path for path in folders_for(name) if not path.exists()))


def newest_folder(name: str, out: Path | None) -> RunFolder | None:
    """Return the folder of the run to go on with: `out`, or the last of ``runs/NAME``, ...; None if there is none."""
    if out is not None:
        return RunFolder(out) if RunFolder(out).holds_run() else None
    theirs = takewhile(Path.exists, folders_for(name))
    known = [RunFolder(path) for path in theirs if os.access(path, os.X_OK)]  # not those of other people
    return next((folder for folder in reversed(known) if folder.holds_run()), None)


@dataclass(frozen=True)
class Start:
    """Which folder a run writes to, and the checkpoint that it goes on from."""

    folder: RunFolder
    checkpoint: Path | None = None


def choose_start(name: str, out: Path | None, resume: str) -> Start:
    """Return the folder and the checkpoint for ``--out`` and ``--resume auto|never|PATH``.

    Raises:
        CheckpointError: nothing is there to resume, or `out` holds a run and `resume` is never.
    """
    if resume == "never":
        return Start(new_folder(name, out))
    if resume == "auto":
        folder = newest_folder(name, out)
        if folder is None:
            return Start(new_folder(name, out))
        return Start(folder, newest_that_verifies(folder))
    path = Path(resume)
    checkpoint = newest_that_verifies(RunFolder(path)) if path.is_dir() else path
    if checkpoint is None or not checkpoint.is_file():
        raise CheckpointError(f"--resume: there is no checkpoint {resume!r}. Give a run folder or a checkpoint.")
    if out is None and RunFolder(checkpoint.parent.parent).checkpoints == checkpoint.parent:
        return Start(RunFolder(checkpoint.parent.parent), checkpoint)
    return Start(new_folder(name, out), checkpoint)


def newest_that_verifies(folder: RunFolder) -> Path | None:
    """Return the newest checkpoint of a run; None if it has none. Damaged ones are named on stderr and passed over.

    Raises:
        CheckpointError: it has some, and none verifies. To start anew then would throw away what may be rescued.
    """
    found = find_checkpoints([*folder.steps(), folder.last, folder.best])
    for file in found:
        trouble = file.verify()
        if not trouble:
            return file.path
        write_line(f"hpcnn: warning: passed over a checkpoint: {trouble}", ERROR)
    if found:
        raise CheckpointError(
            f"the run {str(folder.path)!r} has {len(found)} checkpoints, and none of them is whole. Go on from another "
            "one by --resume PATH, or start a new run by another --out."
        )
    return None

"""The folder of one run: what training reads and writes in it, and which one to use."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, Protocol

from hpcnn.core.run_paths import RunPaths, folders_for
from hpcnn.errors import CheckpointError
from hpcnn.job.origin import run_of, write_origin
from hpcnn.runs.checkpoint_index import find_checkpoints
from hpcnn.runs.lease import Lease, RunBusyError, acquire
from hpcnn.system.atomic import remove_leftovers, write_text
from hpcnn.system.output import ERROR, write_line

_ATTEMPTS = 100
"""How often a folder is made anew that others delete."""


@dataclass(frozen=True)
class RunFolder(RunPaths):
    """The files of one run, and what training does with them."""

    def steps(self) -> list[Path]:
        """Return the states that are named by their step, the newest first."""
        return sorted(self.checkpoints.glob("step-*.safetensors"), reverse=True)

    def states(self) -> list[Path]:
        """Return all states that are there, to go on from."""
        return [*self.steps(), *(path for path in (self.last, self.best) if path.exists())]

    def drop_old(self, step: int, keep: int) -> None:
        """Keep the newest `keep` states up to `step`. Those of later steps go as well: the run went back behind them.

        What can't be deleted stays.
        """
        newest = self.at_step(step)
        with suppress(OSError):  # the folder may be moved away meanwhile
            kept = [path for path in self.steps() if path.name <= newest.name][:keep]
            for path in set(self.steps()) - set(kept):
                path.unlink()

    def holds_run(self) -> bool:
        """Return whether some run has begun here."""
        files = (self.job, self.metrics, self.result, self.last, self.best, self.model, *self.steps())
        return any(path.exists() for path in files)

    def is_taken(self) -> bool:
        """Return whether some run has begun here, or is about to."""
        return self.lease.exists() or self.holds_run()

    def begin(self, job_toml: str, base: Path = Path()) -> None:
        """Write the resolved job, and where its relative paths start. For the owner of the run alone."""
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self.checkpoints)
            ours = (self.job, self.origin, self.metrics, self.time, self.progress, self.result, self.model)
            remove_leftovers(self.path, {path.name for path in (*ours, self.timeline)})
            self.result.unlink(missing_ok=True)  # of a run that now trains for more epochs
            write_text(self.job, job_toml)
            write_origin(self.path, base, job_toml)
        except OSError as error:
            raise _unwritable(self.path, error) from None

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
            self.path.stat()  # a folder that is away is not one without epochs
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

    def append_metrics(self, *lines: Mapping[str, Any]) -> None:
        """Add epochs: all of them, or none."""
        _append(self.metrics, lines)

    def append_time(self, *lines: Mapping[str, Any]) -> None:
        """Add the seconds of all ranks. What a run that went back has done twice took its time twice, and stays."""
        _append(self.time, lines)


def _append(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    with path.open("ab+", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        cut_off = file.read() not in (b"", b"\n")  # by a crash
        rest = memoryview(b"\n" * cut_off + b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except OSError:  # as a disk that is full, which may have taken a part
            with suppress(OSError):
                file.truncate(size)
            raise


def _epoch(line: str) -> float:
    try:
        return int(json.loads(line)["epoch"])
    except (ValueError, KeyError, TypeError, OverflowError):
        return math.inf  # a line cut off by a crash


@dataclass(frozen=True)
class Start:
    """Which folder a run writes to, and the checkpoint that it goes on from."""

    folder: RunFolder
    checkpoint: Path | None = None
    lease: Lease | None = field(default=None, compare=False)
    """That of the folder, which is taken. To be released in the end."""


class Claim(Protocol):
    """Takes the lease of a folder that is there; see `acquire`."""

    def __call__(self, folder: Path, *, made: Sequence[Path]) -> Lease:
        """Take it."""
        ...


def newest_folder(name: str, out: Path | None) -> RunFolder | None:
    """Return the folder of the run to go on with: `out`, or the last of ``runs/NAME``, ...; None if there is none."""
    if out is not None:
        return RunFolder(out) if RunFolder(out).is_taken() else None
    theirs = takewhile(Path.exists, folders_for(name))
    known = [RunFolder(path) for path in theirs if os.access(path, os.X_OK)]  # not those of other people
    return next((folder for folder in reversed(known) if folder.is_taken()), None)


def choose_start(name: str, out: Path | None, resume: str, claim: Claim = acquire) -> Start:
    """Return the folder and the checkpoint for ``--out`` and ``--resume auto|never|PATH``, with the folder's lease.

    Raises:
        CheckpointError: nothing is there to resume, or `out` holds a run and `resume` is never, or a live job holds
            the folder.
    """
    if resume == "never":
        return _new_start(name, out, claim)
    if resume == "auto":
        folder = newest_folder(name, out)
        return _go_on(folder, claim) if folder is not None else _new_start(name, out, claim)
    path = Path(resume)
    run = run_of(path)
    if not (path.is_file() or (run and RunFolder(run).is_taken())):
        raise CheckpointError(f"--resume: there is no checkpoint {resume!r}. Give a run folder or a checkpoint.")
    if out is None and run is not None:
        return _go_on(RunFolder(run), claim, path if path.is_file() else None)
    return _new_start(name, out, claim, path if path.is_file() else newest_that_verifies(RunFolder(path)))


def _go_on(folder: RunFolder, claim: Claim, checkpoint: Path | None = None) -> Start:
    """Return a start in the folder of a run: from `checkpoint`, or else the newest, which it stays from then on."""
    lease = _claim(folder.path, claim)
    try:
        return Start(folder, checkpoint or newest_that_verifies(folder), lease)
    except BaseException:
        lease.release()
        raise


def _new_start(name: str, out: Path | None, claim: Claim, checkpoint: Path | None = None) -> Start:
    """Return a start in a folder for a fresh run: `out`, or the first of ``runs/NAME``, ... that could be made."""
    if out is None:
        return _numbered_start(name, claim, checkpoint)
    folder = RunFolder(out)
    if folder.lease.exists() or not folder.holds_run():
        lease = _claim(out, claim)
        if not folder.holds_run():  # still: another job may have begun there meanwhile, and ended
            return Start(folder, checkpoint, lease)
        lease.release()
    raise CheckpointError(
        f"the output folder {str(out)!r} holds a run already, and nothing is overwritten. "
        "Go on with it by --resume auto, or choose another --out."
    )


def _numbered_start(name: str, claim: Claim, checkpoint: Path | None) -> Start:
    for path in folders_for(name):
        try:
            made = make_folders(path)
            if path in made:
                return Start(RunFolder(path), checkpoint, claim(path, made=made))
        except RunBusyError:  # another job was given it by name
            continue
        except OSError as error:
            raise _unwritable(path, error) from None
    raise AssertionError("numbers do not end")


def _claim(path: Path, claim: Claim) -> Lease:
    """Make a folder if it is not there, and take its lease."""
    if path.exists() and not path.is_dir():
        raise CheckpointError(f"--out {str(path)!r} is a file, and a run needs a folder. Give another --out.")
    for _ in range(_ATTEMPTS):
        try:
            return claim(path, made=make_folders(path))
        except FileNotFoundError:  # a job that had made it, and failed, has deleted it
            continue
        except OSError as error:
            raise _unwritable(path, error) from None
    raise _unwritable(path, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))


def make_folders(path: Path) -> list[Path]:
    """Make a folder and those above it; return those that this call has made, the outermost first.

    Each is made in one step, which succeeds for one caller only.
    """
    made: list[Path] = []
    for _ in range(_ATTEMPTS):
        try:
            path.mkdir()
        except FileExistsError:
            return made
        except FileNotFoundError:
            if path.parent == path:
                raise
            made += make_folders(path.parent)
        else:
            return [*made, path]
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


def _unwritable(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(f"can't write to the run folder {str(path)!r} ({error.strerror}). Choose another --out.")


def newest_that_verifies(folder: RunFolder) -> Path | None:
    """Return the newest checkpoint of a run; None if it has none. Damaged ones are named on stderr and passed over.

    Raises:
        CheckpointError: it has some, and none verifies. To start anew then would throw away what may be rescued.
    """
    found = find_checkpoints(folder.states())
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

"""The run folder that a job writes to, and the checkpoint that it starts from."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from hpcnn.core.run_paths import folders_for
from hpcnn.errors import CheckpointError
from hpcnn.job.origin import run_of
from hpcnn.runs.checkpoints.index import newest_that_verifies
from hpcnn.runs.lease.lease import Lease, RunBusyError, acquire
from hpcnn.runs.run_folder import RunFolder, unwritable

_ATTEMPTS = 100
"""How often to create a folder again that other jobs delete."""


@dataclass(frozen=True)
class Start:
    """The folder that a run writes to, and the checkpoint that it resumes from."""

    folder: RunFolder
    checkpoint: Path | None = None
    lease: Lease | None = field(default=None, compare=False)
    """The acquired lease of the folder, to be released at the end."""


Claim = Callable[..., Lease]
"""Acquires the lease of an existing folder, given the folder and those that were `made`; see `acquire`."""


def newest_folder(name: str, out: Path | None) -> RunFolder | None:
    """Return the folder of the run to resume: `out`, or the last of ``runs/NAME``, ...; None if there is none."""
    if out is not None:
        return RunFolder(out) if RunFolder(out).is_taken() else None
    existing = takewhile(Path.exists, folders_for(name))
    readable = [RunFolder(path) for path in existing if os.access(path, os.X_OK)]  # not those of other users
    return next((folder for folder in reversed(readable) if folder.is_taken()), None)


def choose_start(name: str, out: Path | None, resume: str, claim: Claim = acquire) -> Start:
    """Return the folder and the checkpoint for ``--out`` and ``--resume auto|never|PATH``, with the folder's lease.

    CheckpointError: there is nothing to resume, `out` holds a run already, or a live job holds the folder.
    """
    if resume == "never":
        return _new_start(name, out, claim)
    if resume == "auto":
        folder = newest_folder(name, out)
        return _resume(folder, claim) if folder is not None else _new_start(name, out, claim)
    path = Path(resume)
    run = run_of(path)
    if not (path.is_file() or (run and RunFolder(run).is_taken())):
        raise CheckpointError(f"--resume: there is no checkpoint {resume!r}. Give a run folder or a checkpoint.")
    if out is None and run is not None:
        return _resume(RunFolder(run), claim, path if path.is_file() else None)
    return _new_start(name, out, claim, path if path.is_file() else newest_that_verifies(RunFolder(path)))


def _resume(folder: RunFolder, claim: Claim, checkpoint: Path | None = None) -> Start:
    """Return a start in the folder of an existing run, from `checkpoint` or else from its newest."""
    lease = _claim(folder.path, claim)
    try:
        return Start(folder, checkpoint or newest_that_verifies(folder), lease)
    except BaseException:
        lease.release()
        raise


def _new_start(name: str, out: Path | None, claim: Claim, checkpoint: Path | None = None) -> Start:
    """Return a start in the folder of a new run: `out`, or the first of ``runs/NAME``, ... that could be created."""
    if out is None:
        return _numbered_start(name, claim, checkpoint)
    folder = RunFolder(out)
    if folder.lease.exists() or not folder.holds_run():
        lease = _claim(out, claim)
        if not folder.holds_run():  # again: another job may have trained there and ended meanwhile
            return Start(folder, checkpoint, lease)
        lease.release()
    raise CheckpointError(
        f"the output folder {str(out)!r} holds a run already, and nothing is overwritten. "
        "Resume it by --resume auto, or choose another --out."
    )


def _numbered_start(name: str, claim: Claim, checkpoint: Path | None) -> Start:
    for path in folders_for(name):
        try:
            made = make_folders(path)
            if path in made:
                return Start(RunFolder(path), checkpoint, claim(path, made=made))
        except RunBusyError:  # another job was told to use it by --out
            continue
        except OSError as error:
            raise unwritable(path, error) from None
    raise AssertionError("numbers do not end")


def _claim(path: Path, claim: Claim) -> Lease:
    if path.exists() and not path.is_dir():
        raise CheckpointError(f"--out {str(path)!r} is a file, and a run needs a folder. Give another --out.")
    for _ in range(_ATTEMPTS):
        try:
            return claim(path, made=make_folders(path))
        except FileNotFoundError:  # the job that created it has failed, and deleted it
            continue
        except OSError as error:
            raise unwritable(path, error) from None
    raise unwritable(path, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))


def make_folders(path: Path) -> list[Path]:
    """Create a folder and its parents; return those that this call has created, the outermost first.

    Each is created atomically, so that it belongs to one caller only.
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

"""Where a run keeps the job that it trains, and where the relative paths of that job start."""

from __future__ import annotations

import json
import os
from pathlib import Path

from hpcnn.atomic import write_text
from hpcnn.run_paths import RunPaths


def write_origin(run: Path, base: Path) -> None:
    """Keep, in the folder of a run, that relative paths of its job start at `base`.

    It is kept twice: as it is seen from the run folder, for a tree that is moved or is mounted elsewhere on another
    host, and from the root, for a run folder that is moved alone.
    """
    base = base.resolve()
    folders = {"from_here": os.path.relpath(base, run.resolve()), "folder": str(base)}
    write_text(RunPaths(run).origin, json.dumps(folders, indent=2) + "\n")


def read_origin(run: Path) -> Path | None:
    """Return where relative paths of a run's job start; None if that is not known, or no longer there."""
    try:
        folders = json.loads(RunPaths(run).origin.read_text(encoding="utf-8"))
        places = [run / folders["from_here"], Path(folders["folder"])]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return None
    return next((place for place in places if place.is_dir()), None)


def base_of_model(file: Path, kept: str) -> Path:
    """Return where relative paths start for the model in a file: as its run folder says now, or else as was `kept`."""
    return read_origin(run_of(file) or file.parent) or Path(kept)


def run_of(path: Path) -> Path | None:
    """Return the folder of the run that `path` is, or is a checkpoint of; None if it is a file that lies elsewhere.

    >>> run_of(Path("runs/a/checkpoints/last.safetensors")).as_posix()
    'runs/a'
    """
    if path.is_dir():
        return path
    run = RunPaths(path.parent.parent)
    return run.path if path.parent == run.checkpoints else None

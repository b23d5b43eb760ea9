"""Where a run keeps the job that it trains, and where the relative paths of that job start."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpcnn.core.run_paths import RunPaths
from hpcnn.system.atomic import write_text


def write_origin(run: Path, base: Path, job_toml: str) -> None:
    """Keep, in the folder of a run, that relative paths of its job start at `base`.

    It is kept twice: as it is seen from the run folder, for a tree that is moved or is mounted elsewhere on another
    host, and from the root, for a run folder that is moved alone. Which of them holds is told by what the job names
    there.
    """
    import tomllib

    base = base.resolve()
    here = os.path.relpath(base, run.resolve())
    holds = sorted({text for text in _texts(tomllib.loads(job_toml)) if _leads_to_something(base, text)})
    origin = {"from_here": here, "folder": str(base), "holds": holds}
    write_text(RunPaths(run).origin, json.dumps(origin, indent=2) + "\n")


def read_origin(run: Path) -> Path | None:
    """Return where relative paths of a run's job start; None if that is not known, or no longer there."""
    try:
        origin = json.loads(RunPaths(run).origin.read_text(encoding="utf-8"))
        places: list[Path] = [run / origin["from_here"], Path(origin["folder"])]
        holds = [str(text) for text in origin.get("holds", ())]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return None
    for place in places:
        if any(_leads_to_something(place, text) for text in holds):
            return place
    return next((place for place in reversed(places) if place.is_dir()), None)


def _texts(value: Any) -> Iterator[str]:
    """Yield all strings within a job."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _leads_to_something(base: Path, text: str) -> bool:
    """Return whether `text` is a relative path from `base`, by a name, to something that is there."""
    path = Path(text)
    if path.is_absolute() or all(part == ".." for part in path.parts):
        return False
    try:
        return (base / path).exists()
    except (OSError, ValueError):  # too long, or no path at all
        return False


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

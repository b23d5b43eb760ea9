"""The folder that relative paths in the job of a run start from, stored with the run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hpcnn.core.run_paths import RunPaths


def origin_text(run: Path, base: Path, job: Mapping[str, Any]) -> str:
    """Return the content of a run's file that says that relative paths of its job start from `base`.

    The folder is in it twice: relative to the run folder, for a tree that is moved or mounted elsewhere on another
    host, and as an absolute path, for a run folder that is moved alone. The files that the job names tell which of them
    is valid.
    """
    base = base.resolve()
    here = os.path.relpath(base, run.resolve())
    holds = sorted(text for text in set(_texts(job)) if _names_existing(base, text))
    return json.dumps({"from_here": here, "folder": str(base), "holds": holds}, indent=2) + "\n"


def read_origin(run: Path) -> Path | None:
    """Return the base of relative paths in the job of a run; None if it is unknown or no longer exists."""
    try:
        origin = json.loads(RunPaths(run).origin.read_text(encoding="utf-8"))
        places: list[Path] = [run / origin["from_here"], Path(origin["folder"])]
        holds = [str(text) for text in origin.get("holds", ())]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return None
    for place in places:
        if any(_names_existing(place, text) for text in holds):
            return place
    return next((place for place in reversed(places) if place.is_dir()), None)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(each)


def _names_existing(base: Path, text: str) -> bool:
    """Return whether `text` is a relative path with a name that exists below `base`."""
    if text.startswith("/") or not set(text.split("/")) - {"", ".", ".."}:
        return False
    try:
        return (base / text).exists()
    except (OSError, ValueError):  # too long, or not a path
        return False


def base_of_model(file: Path, kept: str) -> Path:
    """Return the base of relative paths for the model in a file: that of its run folder, else `kept`."""
    return read_origin(run_of(file) or file.parent) or Path(kept)


def run_of(path: Path) -> Path | None:
    """Return the run folder that `path` is or is a checkpoint in; None for a file elsewhere.

    >>> run_of(Path("runs/a/checkpoints/last.safetensors")).as_posix()
    'runs/a'
    """
    if path.is_dir():
        return path
    run = RunPaths(path.parent.parent)
    return run.path if path.parent == run.checkpoints else None

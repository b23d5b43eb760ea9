"""Whether the data that a job names are there: in a container, only what is bound is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hpcnn.tools.doctor.timed_command import run_timed

if TYPE_CHECKING:
    from hpcnn.job.load import LoadedJob

_PATTERN = re.compile(r"[*?\[{]")


def data_paths(loaded: LoadedJob) -> dict[str, tuple[Path, ...]]:
    """Return the places of each file or folder of a job's data, of which one must exist, by ``key = path``.

    Of patterns it is the folder above the first wildcard. Addresses, as ``s3://…``, are left out.
    """
    from hpcnn.job.data import LOCATIONS

    named = {key: getattr(loaded.job.data, key, "") for key in LOCATIONS}
    return {
        f"data.{key} = {path}": _places(path, loaded.base)
        for key, path in named.items()
        if isinstance(path, str) and path and "://" not in path
    }


def _places(path: str, base: Path) -> tuple[Path, ...]:
    found = _PATTERN.search(path)
    given = Path(path[: found.start()] + "x").parent if found else Path(path)
    given = given.expanduser()
    return (given,) if given.is_absolute() else (base / given, Path.cwd() / given)


def missing_data(paths: Mapping[str, tuple[Path, ...]], limit_s: float) -> tuple[str, ...]:
    """Return those of `data_paths` that do not exist, or do not answer in time."""
    return tuple(name for name, places in paths.items() if not _exists(places, limit_s))


def _exists(places: tuple[Path, ...], limit_s: float) -> bool:
    tests = [part for place in places for part in ("-o", "-e", str(place))]
    return run_timed(["test", *tests[1:]], limit_s).code == 0  # a file system that is gone would keep this process

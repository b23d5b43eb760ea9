"""The files that a `[data]` section names: where they are, and how large."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec

from hpcnn.core.formatting import approximate_size, counted
from hpcnn.data.readers.tar_patterns import expanded
from hpcnn.data.source import places
from hpcnn.errors import DataError
from hpcnn.job import data as schema

MOST_FILES = 10_000
"""Files of a folder that are counted; a larger folder is named without them."""
Natural = Annotated[int, msgspec.Meta(ge=0)]


class FileFacts(msgspec.Struct, frozen=True):
    """A file that a setting names, or all files of a folder or a pattern."""

    setting: str
    path: str
    bytes: Natural
    files: Natural = 1

    @property
    def size(self) -> str:
        """The size in words; exact, so that small changes are seen."""
        size = (
            f"{self.bytes:,} bytes" if self.bytes < 10**7 else f"{approximate_size(self.bytes)} ({self.bytes:,} bytes)"
        )
        return size if self.files == 1 else f"{counted(self.files, 'file')}, {size}"


def files_of(section: schema.DataSection, base: Path) -> list[FileFacts]:
    """Return the files of a section as far as they are found; `base` is the folder that relative paths start at."""
    found = []
    for setting, paths in paths_of(section, base):
        sizes = _sizes(paths)
        if sizes is not None:
            first = paths[0] if len(paths) == 1 else paths[0].parent
            found.append(FileFacts(setting, str(first), sum(sizes), len(sizes)))
    return found


def paths_of(
    section: schema.DataSection, base: Path, *, whole_folder: bool = False
) -> Iterator[tuple[str, list[Path]]]:
    """Yield each setting that names files or folders, with these.

    `section.folder` comes only where no other setting names files in it; with `whole_folder` it comes alone.
    """
    given = {name: getattr(section, name, "") for name in schema.LOCATIONS}
    folder = given.pop("folder")
    inside = [] if not folder else [place for place in _places(folder, base) if place.exists()][:1]
    whole = True
    for setting, path in given.items():
        if not path or "://" in path:
            continue
        found = [found for near in inside for found in _existing(str(near / path), near)] or _existing(path, base)
        within = bool(found and inside and found[0].is_relative_to(inside[0]))
        whole = whole and not within
        if found and not (within and whole_folder):
            yield setting, found
    if inside and (whole or whole_folder):
        yield "folder", inside


def _places(path: str, base: Path) -> tuple[Path, ...]:
    try:
        return places(path, base)
    except DataError:
        return ()


def _existing(path: str, base: Path) -> list[Path]:
    """Return the file or folder of that name, packed or not, or all files that match a pattern."""
    for place in _places(path, base):
        for one in (place, place.with_name(place.name + ".gz")):
            if one.exists():
                return [one]
        if "{" in path:
            return [found for name in _expanded(path) for found in _existing(name, base)]
        if matching := sorted(glob.glob(str(place), recursive=True)):  # noqa: PTH207 - takes absolute patterns
            return [Path(one) for one in matching]
    return []


def _expanded(pattern: str) -> list[str]:
    try:
        return [name for name in expanded(pattern) if name != pattern]
    except DataError:
        return []


def is_pattern(path: str) -> bool:
    """Return whether a path names files by a pattern: with `*`, `?`, `[...]`, or braces as shards have them."""
    return glob.has_magic(path) or "{" in path


def _sizes(paths: list[Path]) -> list[int] | None:
    """Return the size of each file, those in folders included; None if there are too many, or some can't be read."""
    sizes: list[int] = []
    try:
        for path in paths:
            if path.is_file():
                sizes.append(path.stat().st_size)
                continue
            for folder, _, names in os.walk(path):
                sizes += [Path(folder, name).stat().st_size for name in names[: MOST_FILES + 1]]
                if len(sizes) > MOST_FILES:
                    return None
    except OSError:
        return None
    return sizes


def files_in(path: Path) -> Iterator[Path]:
    """Yield a file, or all files of a folder, through links too."""
    if not path.is_dir():
        yield path
        return
    seen: set[Path] = set()
    for folder, below, names in os.walk(path, followlinks=True):
        real = Path(folder).resolve()
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        yield from (Path(folder, name) for name in names)


def folder_on_disk(setting: str, given: str, host: str) -> Path:
    """Return the folder that `data.SETTING` names on `host`, variables replaced. DataError: there is none."""
    folder = Path(os.path.expandvars(given)).expanduser()
    if folder.is_absolute() and folder.is_dir():
        return folder
    unset = " (a variable that is not set)" if "$" in str(folder) else ""
    raise DataError(
        f"data.{setting} = {given!r}: there is no folder {folder}{unset} on {host}. Give an absolute path of a folder, "
        'as "/tmp" or "$TMPDIR".'
    )

"""The files that make up one table: a single one, those of a folder with its parts, or all that match a pattern."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import numpy as np

from hpcnn.data.source import find_folder, places, resolve, unread
from hpcnn.data.tables.opened import File, RemoteFile
from hpcnn.data.tables.table import Column
from hpcnn.data.tables.text import coded_column
from hpcnn.errors import DataError

_PACKED = ("", ".gz", ".bz2", ".xz", ".zst")
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class Part:
    """One file of a table."""

    file: File
    values: dict[str, str] = field(default_factory=dict)
    """Columns that have one value in all of its rows: those that the names of its folders give, as ``year=2024``."""


def find_table(path: str, base: Path) -> File:
    """Return the file, folder, pattern or address `path`; relative ones are looked for as `resolve` says.

    Raises:
        DataError: there is none.
    """
    if "://" in path:
        return RemoteFile(path)
    folder = find_folder(path, base)
    if folder is not None:
        return folder
    found = places(path, base)
    if not glob.has_magic(path) or any(place.is_file() for place in found):
        return resolve(path, base)
    for start in dict.fromkeys((base, Path.cwd())):
        pattern = Path(glob.escape(str(start)), Path(path).expanduser())
        if _matching(pattern):
            return pattern
    raise DataError(f"no file matches {path!r}: looked for {' and '.join(map(str, found))}.")


def parts_of(place: File, endings: Sequence[str]) -> list[Part]:
    """Return the files of a table in the order of their names.

    Hidden files, those that begin with ``_`` and checksums are left out, and where names end in one of `endings`,
    packed or not, all others.

    Raises:
        DataError: a folder holds no file, or the names of the folders give one part a column that another lacks.
    """
    found = _files(place)
    if len(found) == 1 and found[0][1] == "":
        return [Part(place)]
    kept = [(file, name) for file, name in found if not _is_hidden(name)]
    known = tuple(ending + packed for ending in endings for packed in _PACKED)
    typical = [(file, name) for file, name in kept if name.lower().endswith(known)]
    parts = [Part(file, _values(name)) for file, name in sorted(typical or kept, key=lambda one: one[1])]
    if not parts:
        raise DataError(f"{place} holds no file of a table: expected files that end in {' or '.join(endings)}.")
    for part in parts:
        if part.values.keys() != parts[0].values.keys():
            raise DataError(
                f"the folders of {part.file} give the columns {', '.join(part.values) or 'no'}, those of "
                f"{parts[0].file} {', '.join(parts[0].values) or 'none'}. Give all parts of a table the same folders."
            )
    return parts


def _files(place: File) -> list[tuple[File, str]]:
    """Return files with their paths below the folder; that of a single file is empty."""
    if isinstance(place, RemoteFile):
        found = place.files()
        return [(place, "")] if [file for file, _ in found] == [place] else [*found]
    if place.is_dir():
        inside = [Path(folder) / name for folder, _, names in os.walk(place, onerror=_refuse) for name in names]
        return [(path, path.relative_to(place).as_posix()) for path in inside]
    if place.is_file():
        return [(place, "")]
    return [(path, path.name) for path in _matching(place)]


def _matching(pattern: Path) -> list[Path]:
    found = glob.glob(str(pattern), recursive=True)  # noqa: PTH207 - a path with a pattern anywhere
    return [path for path in map(Path, found) if path.is_file()]


def _refuse(error: OSError) -> None:
    raise unread(error.filename, error.strerror or error)


def _is_hidden(name: str) -> bool:
    folders = PurePosixPath(name).parts
    return folders[-1].endswith(".crc") or any(one[0] == "." or (one[0] == "_" and "=" not in one) for one in folders)


def _values(name: str) -> dict[str, str]:
    pairs = [folder.partition("=") for folder in PurePosixPath(name).parts[:-1] if "=" in folder]
    return {unquote(key): "" if value == _NO_VALUE else unquote(value) for key, _, value in pairs}


def constant_columns(values: Sequence[Mapping[str, str]], counts: Sequence[int]) -> list[Column]:
    """Return the columns that have one value in all rows of a part: `values` by name, and the numbers of rows."""
    codes = np.repeat(np.arange(len(values)), counts)
    return [coded_column(name, [part[name] for part in values], codes) for name in values[0]]

"""Data that are slow to read, kept in files that are mapped: the first run writes them, later ones find them."""

from __future__ import annotations

import copy
import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from hpcnn.comm.collectives import gather_or_raise, meet_or_raise
from hpcnn.comm.protocol import Communicator
from hpcnn.core.activity import SET_UP
from hpcnn.core.formatting import approximate_size
from hpcnn.data.chunks import replaced
from hpcnn.data.files import files_in, folder_on_disk, paths_of
from hpcnn.data.readers import read_source
from hpcnn.data.rows import MATERIALIZE_BYTES, ArrayRows, Rows
from hpcnn.data.source import Source
from hpcnn.errors import DataError
from hpcnn.job.data import AFTER_READING, DataSection
from hpcnn.system.atomic import atomic_path
from hpcnn.training.packed import Packed, pack, unpack
from hpcnn.training.read_once import read_once

PREFIX = "hpcnn-data-"
_MAGIC = b"hpcnn data 1\n"
_HEADER = 64
"""Bytes before the data: the magic number, their size, and the SHA-256 of their beginning, so that
arrays stay aligned."""
_SIZE, _DIGEST = slice(16, 24), slice(24, 56)
_CHECKED = 2**16
_COMPARED = 2**16
"""Bytes at the beginning and at the end of a file that are hashed to recognise it."""
_MOST = 1000
"""Files that are hashed; of more, names, sizes and times alone are compared."""
Beat = Callable[[], object]


def read_data(section: DataSection, base: Path, comm: Communicator) -> Source:
    """Return the data of a section, from `section.cache` where there is one. Collective, within `agree`.

    What is not in the cache, one rank reads and writes there, then the first rank of each node that does not see it.
    Data of files that are mapped as they are, and those of addresses, are not cached.

    Raises:
        DataError: as reading does; there is no such folder, it has too little room, or holds somebody else's file.
    """
    if not section.cache:
        return read_once(lambda: read_source(section, base), comm)
    beat = partial(comm.activity.enter, SET_UP)
    path: Path | None = None
    for turn in (comm.rank == 0, comm.rank != 0 and comm.local_rank == 0):
        if turn:
            path = _found_or_made(section, base, comm.host, beat)
        meet_or_raise(comm)
    everyone = gather_or_raise(comm, (comm.local_rank == 0, comm.host, path))
    paths = {host: path for reads, host, path in everyone if reads}
    own = paths[comm.host]
    if own is None or None in paths.values():
        return read_once(lambda: read_source(section, base), comm)
    return _opened(own)


def _found_or_made(section: DataSection, base: Path, host: str, beat: Beat) -> Path | None:
    """Return the file with the data, made if it is not there; None for data that are not cached."""
    key = _key(section, base)
    if key is None:
        return None
    path = folder_on_disk("cache", section.cache, host) / f"{PREFIX}{key}"
    if _is_whole(path):
        return path
    packed = pack(read_source(section, base))
    if packed is None:
        return None
    if _key(section, base) != key:
        raise DataError("the files of the data changed while they were read: start again when they are complete")
    try:
        _write(path, packed, beat)
    except OSError as error:
        raise _refused(path, f"could not be written: {error.strerror or error}") from None
    return path


def _key(section: DataSection, base: Path) -> str | None:
    """Return what the data follow from, as a hash: settings, and name, size, time and both ends of each file.

    None for data without files, or with an address among them.
    """
    from hpcnn import __version__

    found = [(setting, file) for setting, paths in paths_of(section, base, whole_folder=True)
             for path in paths for file in sorted(files_in(path)) if not file.name.startswith(PREFIX)]  # fmt: skip
    settings = msgspec.to_builtins(section)
    if not found or any("://" in value for value in settings.values() if isinstance(value, str)):
        return None
    for name in AFTER_READING:
        settings.pop(name, None)
    sha256 = hashlib.sha256(
        msgspec.json.encode([__version__, os.geteuid(), str(base.resolve()), settings], order="sorted")
    )
    for setting, file in found:
        facts = file.stat()
        sha256.update(f"{setting} {file.resolve()} {facts.st_size} {facts.st_mtime_ns}\n".encode())
        if len(found) <= _MOST:
            sha256.update(_ends(file, facts.st_size))
    return sha256.hexdigest()[:32]


def _ends(file: Path, size: int) -> bytes:
    with file.open("rb") as opened:
        first = opened.read(_COMPARED)
        opened.seek(max(len(first), size - _COMPARED))
        return first + opened.read(_COMPARED)


def _is_whole(path: Path) -> bool:
    """Return whether a file is there and complete. DataError: somebody else could have written it."""
    try:
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            if facts.st_uid != os.geteuid() or facts.st_mode & 0o022:
                raise _refused(path, "belongs to another user, or others may write to it")
            header, first = file.read(_HEADER), file.read(_CHECKED)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _refused(path, f"can't be read: {error.strerror or error}") from None
    return header == _header(facts.st_size - _HEADER, first)


def _refused(path: Path, why: str) -> DataError:
    return DataError(
        f'{path} in the folder data.cache {why}. Remove it, give another folder, or none: data.cache = "".'
    )


def _header(size: int, first: bytes) -> bytes:
    header = bytearray(_HEADER)
    header[: len(_MAGIC)] = _MAGIC
    header[_SIZE] = size.to_bytes(8, "little", signed=True)
    header[_DIGEST] = hashlib.sha256(first).digest()
    return bytes(header)


def _write(path: Path, packed: Packed, beat: Beat) -> None:
    free = shutil.disk_usage(path.parent).free
    if packed.size > free:
        needed = f"has no room: {approximate_size(packed.size)} are needed, {approximate_size(free)} are left"
        raise _refused(path, needed)
    with atomic_path(path) as temporary, temporary.open("r+b") as file:
        file.truncate(_HEADER + packed.size)
        for start, piece in packed.parts():
            file.seek(_HEADER + start)
            file.write(piece)
            beat()
        file.seek(_HEADER)
        first = file.read(_CHECKED)
        file.seek(0)
        file.write(_header(packed.size, first))
    path.chmod(0o600)


def _opened(path: Path) -> Source:
    """Return the data of a file of the cache, whose large arrays are read from it when they are needed."""
    source: Source = unpack(np.memmap(path, np.uint8, "r", _HEADER))
    validation = source.validation and (_mapped(source.validation[0]), _mapped(source.validation[1]))
    return replace(source, x=_mapped(source.x), y=_mapped(source.y), validation=validation)


def _mapped(rows: Rows) -> Rows:
    return replaced(rows, _as_mapped)


def _as_mapped(rows: Rows) -> Rows:
    if not isinstance(rows, ArrayRows) or rows.array.nbytes <= MATERIALIZE_BYTES:
        return rows
    mapped = copy.copy(rows)
    mapped.mapped = True
    return mapped

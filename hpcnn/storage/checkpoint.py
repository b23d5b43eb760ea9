"""Checkpoints: one safetensors file of arrays, with everything else as JSON in its header; no pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from hpcnn.core import faults
from hpcnn.errors import CheckpointError
from hpcnn.storage.draft import Draft, Share
from hpcnn.storage.lazy import Array, LazyArray
from hpcnn.storage.tensor_file import Beat, Header, header_without_hashes, in_file_order, map_array, read_header, verify
from hpcnn.system.atomic import atomic_path

T = TypeVar("T")

_DEEPEST_FACTS = 100


@dataclass(frozen=True)
class Checkpoint:
    """Arrays by name, such as ``model/dense_1/kernel``, and metadata as JSON."""

    tensors: Mapping[str, Array]
    """Those of a file are read on access, and are read-only."""
    facts: Mapping[str, Any]
    """Metadata; with ``weights_sha256`` once it is in a file."""
    content_sha256: str = ""
    """Of the file that it was read from; empty otherwise."""

    def part(self, prefix: str) -> dict[str, Array]:
        """Return the arrays under ``prefix/``, by the rest of their names."""
        return part_of(prefix, self.tensors)


@dataclass(frozen=True)
class PendingCheckpoint:
    """A checkpoint whose arrays may still be spread over the ranks. Every rank has the same one."""

    arrays: Mapping[str, LazyArray]
    facts: Mapping[str, Any]

    @property
    def size_bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(lazy.size_bytes for lazy in self.arrays.values())

    @property
    def spread_bytes(self) -> int:
        """Bytes of the arrays that are spread over the ranks."""
        return sum(lazy.size_bytes for lazy in self.arrays.values() if lazy.array is None)

    def participate(self) -> None:
        """Give rank 0 what it does not have, on the other ranks, while it calls `collect`."""
        for lazy in in_file_order(self.arrays).values():
            if lazy.array is None:
                for _ in lazy.chunks():
                    pass

    def header(self) -> bytes:
        """Return the header of the file without hashes; its facts may differ from rank to rank."""
        facts = json.dumps(self.facts, allow_nan=True, separators=(",", ":"))
        return header_without_hashes(in_file_order(self.arrays), facts)

    def collect(self) -> Checkpoint:
        """Return a copy of everything on rank 0, while the other ranks `participate`."""
        tensors = {}
        for name, lazy in in_file_order(self.arrays).items():
            array = lazy.whole()
            assert array is not None, "not on rank 0"
            tensors[name] = array
        return Checkpoint(tensors, self.facts)


def prefixed(prefix: str, arrays: Mapping[str, T]) -> dict[str, T]:
    """Return `arrays` under ``prefix/``: the reverse of `part_of`."""
    return {f"{prefix}/{name}": array for name, array in arrays.items()}


def part_of(prefix: str, arrays: Mapping[str, T]) -> dict[str, T]:
    """Return the arrays under ``prefix/``, by the rest of their names."""
    start = len(prefix) + 1
    return {name[start:]: arrays[name] for name in arrays if name.startswith(prefix + "/")}


def new_file(path: str | os.PathLike[str]) -> Path:
    """Return where a file is to be written.

    Raises:
        CheckpointError: that is a folder, or lies in none.
    """
    file = Path(path)
    if file.is_dir() or str(path).endswith("/"):
        raise CheckpointError(f"{str(path)!r} is a folder. Give the path of a file, such as {str(file / 'model')!r}.")
    if not file.parent.is_dir():
        raise CheckpointError(f"there is no folder {str(file.parent)!r} to write {str(path)!r} in. Make it first.")
    return file


def save_checkpoint(
    path: Path,
    content: Checkpoint | PendingCheckpoint,
    *,
    also: Sequence[Path] = (),
    beat: Beat = lambda: None,
    sync_folder: bool = True,
) -> None:
    """Write a checkpoint to `path` atomically, on one rank, which has all arrays.

    `also` are more names for the same file in the same folder, which appear before `path` does; `sync_folder` as for
    `atomic_path`.

    Raises:
        OSError: it can't be written.
    """
    if isinstance(content, Checkpoint):
        tensors = {name: np.asarray(array) for name, array in content.tensors.items()}
        content = PendingCheckpoint({name: LazyArray.of(array) for name, array in tensors.items()}, content.facts)
    arrays, header = in_file_order(content.arrays), content.header()
    with atomic_path(path, also, synced=True, sync_folder=sync_folder) as temporary:
        draft = Draft.create(temporary, header, content.size_bytes)
        with draft.opened() as descriptor:
            part = draft.write(descriptor, arrays, Share(), beat)
        if part.error is not None:
            raise part.error
        draft.complete(header, part)
        faults.writing(temporary)
    faults.written(path)
    beat()


def read_facts(path: Path) -> dict[str, Any]:
    """Return the metadata of a checkpoint, whose arrays may be damaged. CheckpointError: it is none of hpcnn's."""
    return _facts(path, _header(path))


def load_checkpoint(path: Path, *, beat: Beat = lambda: None) -> Checkpoint:
    """Verify a checkpoint and return it; its arrays are read on access. CheckpointError: it is missing or damaged."""
    before = _identity(path)
    header = _header(path)
    facts = _facts(path, header)
    verify(path, header, beat)
    return Checkpoint(_FileArrays(path, header, before), facts, header.content_sha256)


class _FileArrays(Mapping[str, Array]):
    """The arrays of a file, for as long as it is not replaced."""

    def __init__(self, path: Path, header: Header, identity: object) -> None:
        self._path, self._header, self._identity = path, header, identity

    def __getitem__(self, name: str) -> Array:
        stored = self._header.arrays[name]
        try:
            array = map_array(self._path, stored)
        except (OSError, ValueError, OverflowError) as error:
            raise CheckpointError(f"{str(self._path)!r}: {name!r} can't be read ({error}).") from None
        if _identity(self._path) != self._identity:
            raise CheckpointError(f"{str(self._path)!r} was replaced while it was being read. Try again.")
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._header.arrays)

    def __len__(self) -> int:
        return len(self._header.arrays)


def _identity(path: Path) -> object:
    """Return values that differ between a file and a later one of its name; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _header(path: Path) -> Header:
    try:
        there = path.is_file()
    except OSError as error:
        raise CheckpointError(f"{str(path)!r} can't be read ({error}). Give another checkpoint.") from None
    if not there:
        link = f", a link to {str(path.readlink())!r}" if path.is_symlink() else ""
        raise CheckpointError(
            f"there is no checkpoint {str(path)!r}{link}. Give a file that hpcnn wrote, or a run folder."
        )
    return read_header(path)


def _facts(path: Path, header: Header) -> dict[str, Any]:
    try:
        facts = json.loads(header.facts)
        if not isinstance(facts, dict) or _depth(facts) > _DEEPEST_FACTS:
            raise ValueError("not a table of hpcnn")
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{str(path)!r} is damaged: its facts can't be read ({error}). Use another one."
        ) from None
    return {**facts, "weights_sha256": header.weights_sha256}


def _depth(value: Any) -> int:
    deepest, open_values = 0, [(value, 1)]
    while open_values:
        value, depth = open_values.pop()
        deepest = max(deepest, depth)
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        open_values += [(each, depth + 1) for each in inner]
    return deepest

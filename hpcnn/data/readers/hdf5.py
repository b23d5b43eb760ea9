"""Reader of HDF5 files: rows are read from the file as they are asked for (extra `hdf5`)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from hpcnn.data.rows import Array, Buffer
from hpcnn.data.sampler import Indices
from hpcnn.data.source import (
    DEFLATE_RATIO,
    Source,
    check_axes,
    check_countable,
    check_numeric,
    optional_import,
    resolve,
    unread,
)
from hpcnn.errors import DataError, unknown_name
from hpcnn.job import data as schema

FAULTS = (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError)
"""What h5py raises for damaged files, by what the damage makes of them."""


class Hdf5Rows:
    """Rows of an HDF5 data set. HDF5 wants rising indices without repeats: rows are read sorted, then put in place."""

    def __init__(self, dataset: Any, what: str) -> None:
        self.dataset, self.what = dataset, what
        self.shape, self.dtype = tuple(dataset.shape), np.dtype(dataset.dtype)
        self._raw = Buffer(self.shape[1:], self.dtype)

    def take(self, indices: Indices, out: Array) -> None:
        """Write rows into `out`; see `Rows.take`."""
        order = np.argsort(indices, kind="stable")
        for start in range(0, len(indices), self._raw.block):
            places = order[start : start + self._raw.block]
            wanted, repeat = np.unique(indices[places], return_inverse=True)
            raw = self._raw.rows(len(wanted))
            if self.dtype.itemsize and 0 not in raw.shape:
                first, last = int(wanted[0]), int(wanted[-1])
                consecutive = last - first + 1 == len(wanted)
                self._read(raw, np.s_[first : last + 1] if consecutive else np.s_[wanted])
            out[places] = raw if len(wanted) == len(places) else raw[repeat]

    def _read(self, raw: Array, selection: Any) -> None:
        try:
            self.dataset.read_direct(raw, selection)
        except FAULTS as error:
            raise unread(self.what, error) from None


def _open(path: Path) -> Any:
    h5py = optional_import("h5py", "hdf5", "reading HDF5 files")
    try:
        # Parallel file systems often refuse locks, and read-only files need none.
        return h5py.File(path, "r", locking="best-effort")
    except FAULTS as error:
        raise unread(path, f"no valid HDF5 file ({error})") from None


def _dataset_names(file: Any) -> list[str]:
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if hasattr(item, "dtype") else None)
    return names


def _check_stored(dataset: Any, path: Path, what: str) -> None:
    """Raise DataError if the file is too short for the data set. What HDF5 was never given it reads as zeros."""
    declared, held = math.prod(dataset.shape) * dataset.dtype.itemsize, path.stat().st_size
    if declared > DEFLATE_RATIO * held and not dataset.is_virtual:
        raise unread(what, f"it declares {dataset.shape} {dataset.dtype}, {declared} bytes, but the file has {held}")


def _check_chunks(dataset: Any, path: Path, what: str) -> None:
    """Raise DataError if a chunk lies outside of the file: reading it may end the process, in the HDF5 library."""
    if dataset.chunks is None or not hasattr(dataset.id, "chunk_iter"):  # the library is older than 1.12.3
        return
    held = path.stat().st_size
    if dataset.id.chunk_iter(lambda chunk: True if not 0 < chunk.size <= held - chunk.byte_offset else None):
        raise unread(what, "a part of it lies outside of the file")


def _rows(file: Any, key: str, path: Path) -> Hdf5Rows:
    known = _dataset_names(file)
    if key.strip("/") not in known:
        unknown_name(f"data set in {path}", key, known, DataError)
    dataset, what = file[key], f"data set {key!r} in {path}"
    check_numeric(dataset.dtype, what)
    check_axes(dataset.shape or (), what)
    _check_stored(dataset, path, what)
    check_countable(dataset.shape, what)
    _check_chunks(dataset, path, what)
    return Hdf5Rows(dataset, what)


def read_datasets(path: Path, *keys: str) -> tuple[Hdf5Rows, ...]:
    """Return the data sets `keys` of a file, in that order. The file stays open as long as they live.

    Raises:
        DataError: no such data set, a damaged file, or a data set that holds other things than numbers.
    """
    file = _open(path)
    try:
        return tuple(_rows(file, key, path) for key in keys)
    except DataError:
        raise
    except FAULTS as error:
        raise unread(path, f"no valid HDF5 file ({error})") from None


def read(data: schema.Hdf5, base: Path) -> Source:
    """Read `[data] source = "hdf5"`."""
    x, y = read_datasets(resolve(data.path, base), data.x, data.y)
    if not data.validation_path:
        return Source(x, y)
    held_x, held_y = read_datasets(resolve(data.validation_path, base), data.x, data.y)
    return Source(x, y, (held_x, held_y))

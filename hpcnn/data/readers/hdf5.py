"""Reader of HDF5 files, including netCDF-4: rows are read from the file on demand (extra `hdf5`)."""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from hpcnn.data.cf_attributes import ATTRIBUTES, FILL, unpacked
from hpcnn.data.channels import Variable
from hpcnn.data.placed_rows import PlacedRows
from hpcnn.data.readers.grid import GridReader
from hpcnn.data.readers.hdf5_checks import (
    FAULTS,
    check_dataset,
    h5py_module,
    open_file,
    unwritten,
    with_cache_for_a_row,
)
from hpcnn.data.readers.npy import map_rows
from hpcnn.data.rows import Array, ArrayRows, Buffer
from hpcnn.data.sampler import Indices
from hpcnn.data.source import unread
from hpcnn.errors import DataError
from hpcnn.job import data as schema

NEVER_WRITTEN = {
    "f4": 9.969209968386869e36, "f8": 9.969209968386869e36, "i2": -32767, "i4": -2147483647, "i8": -9223372036854775806,
    "u2": 65535, "u4": 4294967295, "u8": 18446744073709551614,
}  # fmt: skip
"""Default fill values of netCDF (NC_FILL_FLOAT and so on) for values that were never written."""


_SCALE = b"DIMENSION_SCALE"
ROWS_A_RUN = 4
"""With as many consecutive rows, on average, a selection of single rows takes longer than one of each run."""


class OpenFile:
    """Closes a file when nothing refers to it any more, at the latest when the interpreter exits."""

    def __init__(self, file: Any) -> None:
        weakref.finalize(self, file.close)


def _mapped(dataset: Any) -> ArrayRows | PlacedRows | None:
    """Return a data set whose rows lie in its file as NumPy has them, whole or in chunks; None for others."""
    alike = dataset.id.get_type().equal(h5py_module().h5t.py_create(dataset.dtype))
    if dataset.external or dataset.is_virtual or dataset.dtype.kind not in "iuf" or not dataset.size or not alike:
        return None
    return _mapped_chunks(dataset) if dataset.chunks else _mapped_whole(dataset)


def _mapped_chunks(dataset: Any) -> PlacedRows | None:
    shape, (chunk_rows, *row) = tuple(dataset.shape), dataset.chunks
    filters, chunk_iter = dataset.id.get_create_plist().get_nfilters(), getattr(dataset.id, "chunk_iter", None)
    if filters or tuple(row) != shape[1:] or chunk_iter is None or dataset.file.userblock_size:
        return None
    found: dict[int, int] = {}
    size, path = math.prod(dataset.chunks) * dataset.dtype.itemsize, Path(dataset.file.filename)
    last = path.stat().st_size - size

    def add(chunk: Any) -> None:
        first, *rest = chunk.chunk_offset
        if chunk.size == size and chunk.byte_offset is not None and chunk.byte_offset <= last and not any(rest):
            found[first] = chunk.byte_offset

    chunk_iter(add)
    firsts = sorted(found)
    if len(firsts) != -(-shape[0] // chunk_rows) or firsts != [*range(0, shape[0], chunk_rows)]:
        return None  # some were never written
    starts = np.array([found[first] for first in firsts], np.int64)
    return PlacedRows(path, np.dtype(dataset.dtype), shape, chunk_rows, starts)


def _mapped_whole(dataset: Any) -> ArrayRows | None:
    stored, nbytes = dataset.id, math.prod(dataset.shape) * dataset.dtype.itemsize
    offset = stored.get_offset()
    path = Path(dataset.file.filename)
    if offset is None or stored.get_storage_size() != nbytes or path.stat().st_size < offset + nbytes:
        return None
    return map_rows(path, np.dtype(dataset.dtype), dataset.shape, offset)


class Hdf5Rows:
    """Rows of an HDF5 data set. HDF5 needs increasing indices without repeats: rows are read sorted, then reordered.

    HDF5 takes a microsecond or more for each row: what it stores as it is, is mapped into memory instead.
    """

    def __init__(self, dataset: Any, what: str, *files: OpenFile) -> None:
        self._held, self.what, self._files = [dataset], what, files
        self.notes = unwritten(dataset, what)
        """Warnings for the user."""
        # The HDF5 library crashes at exit if a virtual data set is still in memory.
        weakref.finalize(self, self._held.clear)
        self.shape, self.dtype = tuple(dataset.shape), np.dtype(dataset.dtype)
        self._raw = Buffer(self.shape[1:], self.dtype)
        self.mapped_rows = _mapped(dataset)
        """The rows in the mapped file, where they are stored as they are."""
        self.stored_chunk_rows = min(dataset.chunks[0], self.shape[0]) if dataset.chunks else 0
        """Rows of a chunk of the file."""
        self.chunk_rows = 0 if self.mapped_rows else self.stored_chunk_rows
        """Rows that are decoded together; see `hpcnn.data.chunks.chunk_rows_of`."""

    def take(self, indices: Indices, out: Array) -> None:
        """Write rows into `out`; see `Rows.take`."""
        if self.mapped_rows is not None:
            self.mapped_rows.take(indices, out)
            return
        if out.dtype == self.dtype and out.size and bool((np.diff(indices) == 1).all()):  # without a copy
            self._read(out, np.s_[int(indices[0]) : int(indices[-1]) + 1])
            return
        order = np.argsort(indices, kind="stable")
        for start in range(0, len(indices), self._raw.block):
            places = order[start : start + self._raw.block]
            wanted, repeat = np.unique(indices[places], return_inverse=True)
            raw = self._raw.rows(len(wanted))
            if self.dtype.itemsize and 0 not in raw.shape:
                self._read_rows(raw, wanted)
            out[places] = raw if len(wanted) == len(places) else raw[repeat]

    def _read_rows(self, raw: Array, wanted: Indices) -> None:
        """Read increasing rows: run by run where there are few, as for windows, else all of them at once."""
        bounds = [0, *(np.flatnonzero(np.diff(wanted) != 1) + 1), len(wanted)]
        if ROWS_A_RUN * (len(bounds) - 1) > max(ROWS_A_RUN, len(wanted)):
            self._read(raw, np.s_[wanted])
            return
        for start, stop in pairwise(bounds):
            self._read(raw[start:stop], np.s_[int(wanted[start]) : int(wanted[stop - 1]) + 1])

    def _read(self, raw: Array, selection: Any) -> None:
        try:
            self._held[0].read_direct(raw, selection)
        except FAULTS as error:
            raise unread(self.what, error) from None


def _attributes(dataset: Any, what: str) -> Mapping[str, Any]:
    found = {}
    for name in ATTRIBUTES:
        try:
            if name in dataset.attrs:
                found[name] = dataset.attrs[name]
        except FAULTS as error:
            raise unread(f"the attribute {name} of {what}", error) from None
    plan = dataset.id.get_create_plist()
    if "_FillValue" not in found and plan.fill_value_defined() == h5py_module().h5d.FILL_VALUE_USER_DEFINED:
        never = NEVER_WRITTEN.get(dataset.dtype.str[1:])
        if never is not None and dataset.fillvalue == dataset.dtype.type(never):
            found[FILL] = dataset.fillvalue
    return found


def _axes(dataset: Any) -> tuple[str, ...]:
    """Return the names of the axes, those of dimension scales; empty where there are none.

    They are read from the attributes: HDF5's own functions for scales crash, or never end, on damaged files.
    """
    try:
        if dataset.attrs.get("CLASS") == _SCALE:
            return (_last_name(dataset),)
        scales = dataset.attrs.get("DIMENSION_LIST", ())
        names = tuple(_last_name(dataset.file[scale[0]]) if len(scale) else "" for scale in scales)
        labels = dataset.attrs.get("DIMENSION_LABELS", ())
    except FAULTS:
        return ()
    names = names if len(names) == len(dataset.shape) else ("",) * len(dataset.shape)
    labels = labels if len(labels) == len(names) else names
    return tuple(name or _text(label) for name, label in zip(names, labels, strict=True))


def _text(label: object) -> str:
    return label.decode(errors="replace") if isinstance(label, bytes) else str(label)


def _last_name(dataset: Any) -> str:
    return str(dataset.name).rpartition("/")[2]


def _variable(file: Any, key: str, path: Path, opened: OpenFile) -> Variable:
    dataset, what = with_cache_for_a_row(file, key, path), f"data set {key!r} in {path}"
    files = [opened] if dataset.file.id == file.id else [opened, OpenFile(dataset.file)]  # a link to another file
    check_dataset(dataset, what)
    return Variable(
        unpacked(Hdf5Rows(dataset, what, *files), _attributes(dataset, what), what), partial(_axes, dataset)
    )


def read_variables(path: Path, *keys: str) -> tuple[Variable, ...]:
    """Return the data sets `keys` of a file, in that order. The file stays open as long as they exist.

    Raises:
        DataError: the file is damaged, or a data set is missing or not numeric.
    """
    file = open_file(path)
    opened = OpenFile(file)
    try:
        return tuple(_variable(file, key, path, opened) for key in keys)
    except DataError:
        raise
    except FAULTS as error:
        raise unread(path, f"no valid HDF5 file ({error})") from None


class Hdf5Reader(GridReader[schema.Hdf5]):
    """Reads HDF5 files."""

    section, endings = schema.Hdf5, (".h5", ".hdf5", ".nc")

    def variables(self, path: Path, names: Sequence[str]) -> list[Variable]:
        """Return data sets of a file; see `read_variables`."""
        return list(read_variables(path, *names))

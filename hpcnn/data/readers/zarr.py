"""Reader of Zarr stores of format 2 and 3: rows are decoded on demand, chunk by chunk (extra `zarr`)."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hpcnn.data.cf_attributes import ATTRIBUTES, FILL, unpacked
from hpcnn.data.channels import Variable
from hpcnn.data.readers.grid import GridReader
from hpcnn.data.readers.zarr_checks import check_array, find_array, open_group, quiet, unwritten
from hpcnn.data.rows import Array
from hpcnn.data.sampler import Indices
from hpcnn.data.source import find_folder, resolve, unread
from hpcnn.job import data as schema

CACHE_BYTES = 2**26
"""Most bytes of decoded chunks that are kept for an array, the last one aside."""


class ZarrRows:
    """Rows of a Zarr array. All chunks that hold a row are decoded together, and the last ones kept."""

    def __init__(self, array: Any, what: str) -> None:
        self._array, self._what = array, what
        self.notes = unwritten(array, what)
        """Warnings for the user."""
        self.shape, self.dtype = tuple(map(int, array.shape)), np.dtype(array.dtype)
        self.chunk_rows = max(1, min(int(array.chunks[0]), self.shape[0]))
        """Rows that are decoded together; see `hpcnn.data.chunks.chunk_rows_of`."""
        chunk_bytes = self.chunk_rows * math.prod(self.shape[1:]) * self.dtype.itemsize
        self._most = max(1, CACHE_BYTES // max(1, chunk_bytes))
        self._decoded: dict[int, Array] = {}

    def take(self, indices: Indices, out: Array) -> None:
        """Write rows into `out`; see `Rows.take`."""
        whole = self._whole_chunk(indices)
        if whole is not None:  # not kept: windows and memory have it from now on
            found = self._decoded.get(whole)
            with np.errstate(all="ignore"):
                np.copyto(out, self._decode(whole) if found is None else found, casting="unsafe")
            return
        chunks = indices // self.chunk_rows
        order = np.argsort(chunks, kind="stable")
        bounds = np.flatnonzero(np.diff(chunks[order])) + 1
        for places in np.split(order, bounds) if len(order) else ():
            chunk = int(chunks[places[0]])
            values = self._chunk(chunk)[indices[places] - chunk * self.chunk_rows]
            with np.errstate(all="ignore"):  # of casts; what is not finite then is found by the checks
                out[places] = values

    def _whole_chunk(self, indices: Indices) -> int | None:
        """Return the chunk of which these are all rows in their order; None if there is none."""
        number, offset = divmod(int(indices[0]), self.chunk_rows) if len(indices) else (0, 1)
        if offset or len(indices) != min(self.chunk_rows, self.shape[0] - number * self.chunk_rows):
            return None
        return number if bool((np.diff(indices) == 1).all()) else None

    def _chunk(self, number: int) -> Array:
        """Return the rows of a chunk, the last that was used at the end of those that are kept."""
        values = self._decoded.pop(number, None)
        if values is None:
            while len(self._decoded) >= self._most:
                del self._decoded[next(iter(self._decoded))]
            values = self._decode(number)
        self._decoded[number] = values
        return values

    def _decode(self, number: int) -> Array:
        first, stop = number * self.chunk_rows, min((number + 1) * self.chunk_rows, self.shape[0])
        try:
            values = np.asarray(self._array[first:stop])
        except MemoryError:  # codecs take what the first bytes of a chunk ask for
            raise unread(self._what, "a chunk declares more values than the memory holds") from None
        except Exception as error:  # whatever the damage makes of it, in any codec
            raise unread(self._what, error) from None
        if values.shape != (stop - first, *self.shape[1:]):
            raise unread(self._what, f"a chunk has shape {values.shape}")
        return values


def _attributes(array: Any) -> Mapping[str, Any]:
    given = dict(array.attrs)
    found = {name: given[name] for name in ATTRIBUTES if name in given}
    if isinstance(found.get("_FillValue"), str):  # as xarray writes floats in format 3
        found["_FillValue"] = _number(found["_FillValue"])
    fill = array.metadata.fill_value
    if array.metadata.zarr_format == 2 and "_ARRAY_DIMENSIONS" in given and fill is not None:
        found.setdefault("_FillValue", None)  # xarray has no attribute in format 2, but the fill value of the array
        if found["_FillValue"] is None:
            del found["_FillValue"]
            found[FILL] = fill
    return found


def _number(text: str) -> float | str:
    """Return a float from the base64 of its bytes; other text as it is."""
    try:
        return float(struct.unpack("<d", base64.b64decode(text, validate=True))[0])
    except (ValueError, struct.error):
        return text


def _axes(array: Any) -> tuple[str, ...]:
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    if not isinstance(names, list | tuple) or len(names) != len(array.shape):
        return ()
    return tuple(name if isinstance(name, str) else "" for name in names)


class ZarrReader(GridReader[schema.Zarr]):
    """Reads Zarr stores."""

    section, endings, folders, any_ending = schema.Zarr, (".zarr", ".zarr.zip"), True, True

    def find(self, path: str, base: Path) -> Path | str:
        """Return the folder or the `.zip` file, or an address as it is. DataError: there is none."""
        return path if "://" in path else find_folder(path, base) or resolve(path, base)

    def variables(self, path: Any, names: Sequence[str]) -> list[Variable]:
        """Return arrays of a store; see `GridReader.variables`."""
        group, found = open_group(path), []
        for name in names:
            array, what = find_array(group, name, path), f"array {name!r} in {path}"
            check_array(array, what)
            with quiet(what, "its attributes"):
                attributes, axes = _attributes(array), _axes(array)
            found.append(Variable(unpacked(ZarrRows(array, what), attributes, what), partial(tuple, axes)))
        return found

"""What an HDF5 data set must be before rows are read from it: found, of numbers, and whole."""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from hpcnn.data.source import (
    DEFLATE_RATIO,
    NAME_ARRAYS,
    check_axes,
    check_countable,
    check_numeric,
    optional_import,
    unread,
)
from hpcnn.errors import DataError, shortened, unknown_name

FAULTS = (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError)
"""What h5py raises for damaged files, by what the damage makes of them."""
BOUNDED_FILTERS = range(1, 7)
"""Those of the library itself, from deflate to scale-offset. Of others nobody knows how far they compress."""
NAMES_LIMIT = 1000
"""Most data sets that a message looks for."""
CHUNK_CACHE = 2**26
"""Most bytes of unpacked chunks that are kept for a data set: rows are read in pieces smaller than a chunk may be."""


def h5py_module() -> Any:
    """Return h5py. MissingExtraError: it is not installed."""
    return optional_import("h5py", "hdf5", "reading HDF5 files")


def open_file(path: Path) -> Any:
    """Return the open file. DataError: it is no HDF5 file, or another program writes to it."""
    h5py = h5py_module()
    try:
        # Parallel file systems often refuse locks, and read-only files need none.
        return h5py.File(path, "r", locking="best-effort", rdcc_nbytes=CHUNK_CACHE)
    except FAULTS as error:
        raise _unopened(path, error) from None


def _unopened(path: Path, error: Exception) -> DataError:
    if "unable to lock file" in str(error):
        return DataError(
            f"{path} is open for writing in another program. Wait until that has closed it, or give a copy of it."
        )
    if "already open for write" in str(error):
        return DataError(
            f"{path} was not closed by the program that wrote to it, or is open there still. Close it there; if that "
            f"program has died, repair the file: h5clear -s {path}"
        )
    with suppress(OSError), path.open("rb") as file:
        if file.read(3) == b"CDF":
            return DataError(
                f"{path} is a netCDF file of the classic format, and no HDF5 file. Convert it: "
                f"nccopy -k netCDF-4 {path} NEW.nc"
            )
    return unread(path, f"no valid HDF5 file ({error})")


def with_cache_for_a_row(file: Any, key: str, path: Path) -> Any:
    """Return the data set `key`, whose unpacked chunks are kept as far as they hold one row; see `find_dataset`."""
    dataset, h5py = find_dataset(file, key, path), h5py_module()
    if not dataset.chunks:
        return dataset
    sizes = zip(dataset.shape[1:], dataset.chunks[1:], strict=True)
    entries = dataset.chunks[0] * math.prod(-(-size // chunk) * chunk for size, chunk in sizes)
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    slots, _, preemption = access.get_chunk_cache()
    access.set_chunk_cache(slots, min(CHUNK_CACHE, entries * dataset.dtype.itemsize), preemption)
    del dataset  # while it is open, its cache stays as it is
    return h5py.Dataset(h5py.h5d.open(file.id, key.encode(), access))


def find_dataset(file: Any, key: str, path: Path) -> Any:
    """Return the data set `key`, wherever links lead. DataError: there is none, or the link leads nowhere."""
    h5py = h5py_module()
    item = _item(file, key)
    if isinstance(item, h5py.Dataset):
        return item
    if item is None:
        _check_link(file, key, path)
    return unknown_name(f"data set in {path}", key, sorted(_dataset_names(file)), DataError, NAME_ARRAYS)


def _item(group: Any, key: str) -> Any:
    with suppress(*FAULTS):
        return group[key]
    return None


def _check_link(file: Any, key: str, path: Path) -> None:
    """Raise DataError if a part of `key` is a link that leads nowhere."""
    h5py, parts = h5py_module(), key.strip("/").split("/")
    for count in range(1, len(parts) + 1):
        name, link = "/".join(parts[:count]), None
        with suppress(*FAULTS):
            link = file.get(name, getlink=True)
        if _item(file, name) is not None or link is None:
            continue
        if isinstance(link, h5py.ExternalLink):
            raise DataError(
                f"{name!r} in {path} is a link to {link.path!r} in the file {link.filename!r}, where it is not found. "
                "Put that file beside this one, or name it in data.path."
            )
        if isinstance(link, h5py.SoftLink):
            raise DataError(f"{name!r} in {path} is a link to {link.path!r}, which is not in the file.")


def _dataset_names(file: Any) -> list[str]:
    h5py, seen = h5py_module(), set()
    names: list[str] = []
    groups = [("", file)]
    while groups and len(names) < NAMES_LIMIT:
        prefix, group = groups.pop()
        info = h5py.h5o.get_info(group.id)
        if (info.fileno, info.addr) in seen:
            continue
        seen.add((info.fileno, info.addr))
        for name in group:
            item = _item(group, name)
            if isinstance(item, h5py.Dataset):
                names.append(prefix + name)
            elif isinstance(item, h5py.Group):
                groups.append((f"{prefix}{name}/", item))
    return names


def check_dataset(dataset: Any, what: str) -> None:
    """Raise DataError unless rows of numbers can be read from a data set."""
    _check_type(dataset, what)
    if dataset.shape is None:
        raise DataError(f"{what} is empty: it has a type, and no shape. Write an array to it.")
    check_axes(dataset.shape, what)
    _check_stored(dataset, what)
    check_countable(dataset.shape, what)
    _check_chunks(dataset, what)
    for source, name in _virtual_sources(dataset, what):
        _check_stored(source, name)
        _check_chunks(source, name)


def _check_type(dataset: Any, what: str) -> None:
    h5py = h5py_module()
    try:
        dtype = dataset.dtype
    except TypeError as error:
        raise DataError(f"{what} has a type that NumPy does not know ({error}). Convert it first.") from None
    holds = ""
    if dtype.names is not None and dtype.kind == "V":
        fields = shortened(", ".join(dtype.names))
        raise DataError(
            f"{what} is a table of fields ({fields}), not an array of numbers. Save the fields that are inputs as one "
            "array (n, fields), or give the table as CSV or Parquet."
        )
    if h5py.check_string_dtype(dtype) is not None:
        holds = "text"
    elif h5py.check_vlen_dtype(dtype) is not None:
        holds = "rows of unlike lengths"
    elif h5py.check_ref_dtype(dtype) is not None:
        holds = "references to other objects"
    if holds:
        raise DataError(f"{what} holds {holds}; allowed are booleans, integers and real floats. Convert it first.")
    check_numeric(dtype, what)


def _check_stored(dataset: Any, what: str) -> None:
    """Raise DataError if far less was stored than the data set declares: HDF5 reads what it was never given as 0."""
    declared = math.prod(dataset.shape) * dataset.dtype.itemsize
    if dataset.is_virtual or dataset.external or not declared:
        return
    held, most = Path(dataset.file.filename).stat().st_size, DEFLATE_RATIO
    said = f"it declares {dataset.shape} {dataset.dtype}, {declared} bytes, but the file has {held}"
    if any(code not in BOUNDED_FILTERS for code, _ in _filters(dataset)):
        held = dataset.id.get_num_chunks() * math.prod(dataset.chunks) * dataset.dtype.itemsize
        said = f"it declares {dataset.shape} {dataset.dtype}, {declared} bytes, but only {held} were written"
    if declared > most * held:
        raise unread(what, said)
    if not dataset.id.get_storage_size():
        raise DataError(f"{what} was declared, with shape {dataset.shape}, but nothing was ever written to it.")


def _filters(dataset: Any) -> list[tuple[int, str]]:
    plan = dataset.id.get_create_plist()
    filters = [plan.get_filter(i) for i in range(plan.get_nfilters())]
    return [(code, name.decode(errors="replace")) for code, _, _, name in filters]


def _check_chunks(dataset: Any, what: str) -> None:
    """Raise DataError if a chunk lies outside of the file, or if there is no filter that unpacks it.

    Reading the first may end the process, in the HDF5 library.
    """
    if dataset.chunks is None:
        return
    held, unused = Path(dataset.file.filename).stat().st_size, ~0

    def lies_outside(chunk: Any) -> bool | None:
        nonlocal unused
        unused &= chunk.filter_mask  # a filter that a chunk did without has its bit set
        return None if 0 < chunk.size <= held - chunk.byte_offset else True

    if not hasattr(dataset.id, "chunk_iter"):  # the library is older than 1.12.3
        unused = 0
    elif dataset.id.chunk_iter(lies_outside):
        raise unread(what, "a part of it lies outside of the file")
    for place, (code, name) in enumerate(_filters(dataset)):
        if not unused >> place & 1:
            _check_filter(code, name, what)


def unwritten(dataset: Any, what: str) -> tuple[str, ...]:
    """Return a warning of a data set that was written in part only, as by a program that broke off."""
    if dataset.chunks is None:
        return ()
    chunks = math.prod(-(-size // chunk) for size, chunk in zip(dataset.shape, dataset.chunks, strict=True))
    missing = chunks - dataset.id.get_num_chunks()
    text = f"{what}: {missing} of its {chunks} chunks were never written, and are read as {dataset.fillvalue}"
    return (text,) if missing > 0 else ()


def _check_filter(code: int, name: str, what: str) -> None:
    """Raise DataError if the library lacks a filter. hdf5plugin has most, and registers them as it is imported."""
    h5z = h5py_module().h5z
    if not h5z.filter_avail(code):
        with suppress(ImportError):
            importlib.import_module("hdf5plugin")
    if not h5z.filter_avail(code):
        named = f" ({shortened(name, 40)})" if name else ""
        raise DataError(
            f"{what} is compressed by the filter number {code}{named}, which this installation of HDF5 lacks. Most "
            "filters come with: pip install hdf5plugin. Or set HDF5_PLUGIN_PATH to the folder of the filter's library, "
            "or save the data with gzip or uncompressed."
        )


def _virtual_sources(dataset: Any, what: str) -> Iterator[tuple[Any, str]]:
    """Yield each data set that a virtual one is made of, open for as long as it is looked at, and its name."""
    if not dataset.is_virtual:
        return
    sources = dict.fromkeys((source.file_name, source.dset_name) for source in dataset.virtual_sources())
    for file_name, name in sources:
        if "%b" in file_name or "%b" in name:  # as many as there are
            continue
        path = _source_path(Path(dataset.file.filename), file_name)
        if path is None:
            raise DataError(
                f"{what} is virtual, and is made of the file {file_name!r}, which is not there: HDF5 would read zeros "
                "in its place. Put it where it was when the data set was made."
            )
        with open_file(path) as file:
            own = f"data set {name!r} in {path}, of which {what} is made,"
            source = _item(file, name)
            if not isinstance(source, h5py_module().Dataset):
                raise DataError(f"{what} is virtual, and is made of {name!r} in {path}, where no such data set is.")
            yield source, own


def _source_path(virtual: Path, name: str) -> Path | None:
    """Return the file that the library takes `name` for, or None."""
    if name == ".":
        return virtual
    prefix = os.environ.get("HDF5_VDS_PREFIX", "").replace("${ORIGIN}", str(virtual.parent))
    folders = [*([Path(prefix)] if prefix else []), virtual.parent, Path()]
    places = [folder / one for folder in folders for one in (name, Path(name).name)]
    return next((place for place in places if place.is_file()), None)

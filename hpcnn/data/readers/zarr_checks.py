"""What a Zarr array must be before rows are decoded: found, of numbers, of known codecs, and there."""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hpcnn.data.source import (
    NAME_ARRAYS,
    check_axes,
    check_countable,
    check_inflated,
    check_memory,
    check_numeric,
    optional_import,
    unread,
)
from hpcnn.errors import DataError, MissingExtraError, shortened, unknown_name

CODECS = frozenset({
    "adler32", "astype", "bitround", "blosc", "bytes", "bz2", "crc32", "crc32c", "delta", "endian", "fixedscaleoffset",
    "fletcher32", "gzip", "jenkins_lookup3", "lz4", "lzma", "packbits", "pcodec", "quantize", "sharding_indexed",
    "shuffle", "transpose", "zfpy", "zlib", "zstd",
})  # fmt: skip
"""Codecs of numbers. Others are refused: that of pickles would run code."""
SHARE = 1000
"""At least one chunk in so many must be there."""
COUNTED = 10**6
"""Most chunks that are counted."""
NAMES_LIMIT = 1000
"""Most arrays that a message looks for."""


@contextmanager
def quiet(path: object, why: str) -> Iterator[None]:
    """Turn whatever zarr raises into a DataError, and its warnings into silence."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (DataError, MissingExtraError):
        raise
    except Exception as error:  # of zarr, of its stores, or what damaged JSON makes of them
        raise unread(path, f"{why} ({type(error).__name__}: {error})") from None


def open_group(path: Path | str) -> Any:
    """Return the root group of a store. DataError: there is none, or it is damaged."""
    zarr = optional_import("zarr", "zarr", "reading Zarr stores")
    storage = optional_import("zarr.storage", "zarr", "reading Zarr stores")
    zarr.config.set({"threading.max_workers": 1})  # the cores are used by the ranks
    with quiet(path, "no Zarr store"):
        if isinstance(path, str):
            store = storage.FsspecStore.from_url(path, read_only=True)
        elif path.is_dir():
            store = _local_store(storage, path)
        else:
            _check_zip(path)
            store = storage.ZipStore(path, mode="r")
        root = zarr.open(store, mode="r")
    if not isinstance(root, zarr.Group):
        raise DataError(f"{path} is one Zarr array, but a group with arrays by name is needed: name the folder above.")
    return root


def _local_store(storage: Any, path: Path) -> Any:
    """Return the store of a folder. What is in the place of a file and is none would be read for ever, or as a gap."""

    class Files(storage.LocalStore):  # type: ignore[misc]
        async def get(self, key: str, *arguments: Any, **options: Any) -> Any:
            place = self.root / key
            if place.is_symlink() or (place.exists() and not place.is_file()):
                place = place.resolve(strict=True)
                if not place.is_file():
                    raise OSError(f"{place} is no file")
            return await super().get(key, *arguments, **options)

    return Files(path, read_only=True)


def _check_zip(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise unread(path, f"a member is compressed by method {info.compress_type}: store or deflate it")
            what, packed = f"{info.filename!r} in {path}", info.compress_size
            if info.header_offset + packed > path.stat().st_size:
                raise unread(what, "the file ends within it")
            if info.compress_type == zipfile.ZIP_DEFLATED:
                check_inflated(info.file_size, packed, what)
            elif info.file_size != packed:
                raise unread(what, f"its header declares {info.file_size} bytes, but {packed} are stored")


def find_array(group: Any, name: str, path: object) -> Any:
    """Return the array `name`, groups before it. DataError: there is none."""
    zarr = optional_import("zarr", "zarr", "reading Zarr stores")
    with quiet(path, f"of the array {name!r}"):
        try:
            found = group[name.strip("/")]
        except KeyError:
            found = None
        if isinstance(found, zarr.Array):
            return found
        names = _array_names(group)
    return unknown_name(f"array in {path}", name, names, DataError, NAME_ARRAYS)


def _array_names(group: Any) -> list[str]:
    zarr = optional_import("zarr", "zarr", "reading Zarr stores")
    names = [name for name, member in group.members(max_depth=None) if isinstance(member, zarr.Array)]
    return sorted(names)[:NAMES_LIMIT]


def check_array(array: Any, what: str) -> None:
    """Raise DataError unless rows of numbers can be decoded from an array."""
    with quiet(what, "its metadata"):
        shape, dtype, chunks = tuple(map(int, array.shape)), np.dtype(array.dtype), tuple(map(int, array.chunks))
        check_numeric(dtype, what)
        check_axes(shape, what)
        check_countable(shape, what)
        for codec in _codecs(array.metadata.to_dict()):
            if codec.removeprefix("numcodecs.") not in CODECS:
                raise DataError(
                    f"{what} is packed by the codec {shortened(codec)!r}, which is none of numbers, or might run code, "
                    f"and is refused. Save it with one of: {', '.join(sorted(CODECS))}."
                )
        rows = max(1, min(chunks[0], shape[0]))
        across = math.prod(-(-size // chunk) * chunk for size, chunk in zip(shape[1:], chunks[1:], strict=True))
        check_memory(rows * across * dtype.itemsize, f"a chunk of {what}", "Save it in smaller chunks.")


def _codecs(metadata: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of all codecs, those within shards too."""
    given: Sequence[Any] = [
        metadata.get("compressor"), *(metadata.get("filters") or ()), *metadata.get("codecs", ()),
        *metadata.get("index_codecs", ()),
    ]  # fmt: skip
    for codec in given:
        if codec is None:
            continue
        if not isinstance(codec, Mapping):
            yield str(getattr(codec, "codec_id", type(codec).__name__))
            continue
        yield str(codec.get("id", codec.get("name")))
        inner = codec.get("configuration")
        yield from _codecs(inner) if isinstance(inner, Mapping) else ()


def _files_of(array: Any, most: int) -> int:
    """Return the number of files of an array, at most `most`."""

    async def count() -> int:
        found = 0
        async for _ in array.store.list_prefix(array.path):
            found += 1
            if found == most:
                break
        return found

    return int(optional_import("zarr.core.sync", "zarr", "reading Zarr stores").sync(count()))


def unwritten(array: Any, what: str) -> tuple[str, ...]:
    """Return a warning of an array some of whose chunks are not there. DataError: hardly one is.

    Zarr leaves out chunks that hold its fill value alone; those that a copy has lost look the same.
    """
    with quiet(what, "its chunks"):
        files = array.shards or array.chunks
        chunks = math.prod(-(-size // length) for size, length in zip(array.shape, files, strict=True))
        many, fill = chunks > COUNTED, array.fill_value
        there = _files_of(array, -(-chunks // SHARE)) if many else int(array.nchunks_initialized)
        chunks = chunks if many else int(array.nchunks)
    if there * SHARE < chunks:
        raise DataError(
            f"{what} was declared, with shape {tuple(array.shape)}, but {there} of its {chunks} chunks are there. "
            "Write it, or complete the copy."
        )
    if many:
        return (f"{what} has {chunks} chunks, which are too many to look whether all of them are there",)
    text = (
        f"{what}: {chunks - there} of its {chunks} chunks are not there, and are read as {fill}. Is the copy complete?"
    )
    return (text,) if there < chunks else ()

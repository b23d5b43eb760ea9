"""The format of checkpoint files: safetensors, with the SHA-256 of the content in the header."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcnn.errors import CheckpointError, shortened
from hpcnn.storage.hashing import CHUNK, WEIGHTS, ContentHash, chunks, content_sha256
from hpcnn.storage.lazy import LazyArray

Array = NDArray[Any]
Beat = Callable[[], None]
"""Called repeatedly by long operations, so that the watchdog sees progress."""

FORMAT = "hpcnn-2"
_TYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
_NAMES = {np.dtype(name): short for short, name in _TYPES.items()}
HASH_DIGITS = 64
_NO_HASH = "0" * HASH_DIGITS
_HASHES = ("weights_sha256", "content_sha256")
_LENGTH_BYTES = 8
_MOST_HEADER_BYTES = 8 * 2**20


@dataclass(frozen=True)
class StoredArray:
    """The type, shape and place of an array in a file."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    size: int


@dataclass(frozen=True)
class Header:
    """The header of a file: its arrays in file order, and its other data."""

    arrays: Mapping[str, StoredArray]
    facts: str
    weights_sha256: str
    content_sha256: str
    without_hashes: bytes


def can_hold(array: object) -> bool:
    """Return whether a file can store the type of an array."""
    return isinstance(array, np.ndarray) and array.dtype in _NAMES


def in_file_order(arrays: Mapping[str, LazyArray]) -> dict[str, LazyArray]:
    """Return the arrays in file order, by falling size of their entries, which aligns all of them."""
    return dict(sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize))


def bytes_of(array: Array) -> memoryview:
    """Return the content of an array as it is in a file."""
    return np.asarray(array, array.dtype.newbyteorder("<"), order="C").reshape(-1).view(np.uint8).data


def header_without_hashes(arrays: Mapping[str, LazyArray], facts: str) -> bytes:
    """Return the header with its length, and zeros in place of the hashes.

    Args:
        arrays: in file order.
        facts: text that it holds.
    """
    header: dict[str, Any] = {"__metadata__": {"format": FORMAT, **dict.fromkeys(_HASHES, _NO_HASH), "facts": facts}}
    end = 0
    for name, lazy in arrays.items():
        start, end = end, end + lazy.size_bytes
        header[name] = {"dtype": _NAMES[lazy.dtype], "shape": lazy.shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def hash_place(header: bytes, name: str = _HASHES[0]) -> int:
    """Return where in a header a hash begins."""
    return header.find(f'"{name}":"'.encode()) + len(f'"{name}":"')


def with_hashes(header: bytes, hashes: Sequence[str]) -> bytes:
    """Return a header with hashes: that of the weights, that of the content, or the first alone."""
    for name, found in zip(_HASHES, hashes, strict=False):
        start = hash_place(header, name)
        header = header[:start] + found.encode() + header[start + len(found) :]
    return header


def read_header(path: Path) -> Header:
    """Read and check the header of a file, whose content may be damaged. CheckpointError: it is not one of hpcnn."""
    from safetensors import SafetensorError, safe_open

    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            if length > _MOST_HEADER_BYTES:
                raise ValueError(f"a header of {length:,} bytes")
            text = file.read(length)
        with safe_open(path, framework="numpy"):  # checks the header, and all sizes against the length of the file
            header = json.loads(text)
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{str(path)!r} is not a whole safetensors file ({shortened(error)}). Use another checkpoint of the run."
        ) from None
    metadata = header.pop("__metadata__", None) or {}
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{str(path)!r} is a safetensors file, but not a checkpoint of this hpcnn: "
            f"format {metadata.get('format')!r}, expected {FORMAT!r}."
        )
    unknown = {entry["dtype"] for entry in header.values()} - _TYPES.keys()
    if unknown:
        raise CheckpointError(f"{str(path)!r} has arrays of types that no checkpoint has: {', '.join(unknown)}.")
    without_hashes = with_hashes(length.to_bytes(_LENGTH_BYTES, "little") + text, [_NO_HASH, _NO_HASH])
    arrays = {name: _stored(entry, _LENGTH_BYTES + length) for name, entry in header.items()}
    in_order = dict(sorted(arrays.items(), key=lambda item: (item[1].start, item[1].size)))
    weights_sha256, content_sha256 = (metadata.get(name, "") for name in _HASHES)
    return Header(in_order, metadata.get("facts", ""), weights_sha256, content_sha256, without_hashes)


def _stored(entry: Mapping[str, Any], begin: int) -> StoredArray:
    start, end = entry["data_offsets"]
    return StoredArray(np.dtype(_TYPES[entry["dtype"]]), tuple(entry["shape"]), begin + start, end - start)


def verify(path: Path, header: Header, beat: Beat) -> None:
    """Check the content of a file against its hash, chunk by chunk. CheckpointError: it does not match."""
    try:
        with path.open("rb", buffering=0) as file, ContentHash() as content:
            number = 0
            for name, stored in header.arrays.items():
                weights = name.startswith(WEIGHTS)
                if weights:
                    content.begin_array(name, stored.dtype, stored.shape)
                file.seek(stored.start)
                for part in chunks(stored.size):
                    data = _read(file, part.stop - part.start)
                    if weights:
                        content.add_weights(data)
                    else:
                        content.add(number, data)
                        number += 1
                    beat()
            found = content.weights()
            hashes = found, content_sha256(header.without_hashes, found, content.digests())
    except OSError as error:
        raise CheckpointError(f"{str(path)!r} can't be read ({error}). Use another checkpoint of the run.") from None
    if hashes != (header.weights_sha256, header.content_sha256):
        raise CheckpointError(f"{str(path)!r} is damaged: its content does not match its SHA-256. Use another one.")


def map_array(path: Path, stored: StoredArray) -> Array:
    """Return an array of a file, read-only; a large one is memory-mapped."""
    if stored.size < CHUNK:
        with path.open("rb") as file:
            file.seek(stored.start)
            data = np.frombuffer(bytes(_read(file, stored.size)), stored.dtype)
        return data.reshape(stored.shape)
    return np.memmap(path, stored.dtype, "r", stored.start, stored.shape)


def _read(file: Any, size: int) -> bytearray:
    data = bytearray(size)
    view, done = memoryview(data), 0
    while done < size:
        got = file.readinto(view[done:])
        if not got:
            raise OSError("it ends too early")
        done += got
    return data

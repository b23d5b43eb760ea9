"""Reader of `.npz` archives: stored members are memory-mapped, deflated ones are read into memory."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from typing import cast

from hpcnn.data.columns import Columns
from hpcnn.data.joined import arrays_source, joined, names_of
from hpcnn.data.readers.npy import map_rows, read_header
from hpcnn.data.readers.reader import FileReader
from hpcnn.data.rows import ArrayRows
from hpcnn.data.source import NAME_ARRAYS, Inputs, Source, check_inflated, read_rest, unread
from hpcnn.errors import DataError, unknown_name
from hpcnn.job import data as schema

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""The methods that NumPy writes. Others would allocate the declared size, however small the file is."""
LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Start of a member in a zip file: signature, 22 bytes that the directory repeats, lengths of name and extra field."""


def _check_size(path: Path, info: zipfile.ZipInfo, what: str) -> None:
    if info.compress_type not in METHODS:
        raise unread(what, f"it is compressed by method {info.compress_type}, but .npz archives are stored or deflated")
    if info.header_offset + info.compress_size > path.stat().st_size:
        raise unread(what, "the file ends within it")
    if info.compress_type == zipfile.ZIP_DEFLATED:
        check_inflated(info.file_size, info.compress_size, what)


def _data_offset(path: Path, info: zipfile.ZipInfo, what: str) -> int:
    with path.open("rb") as file:
        file.seek(info.header_offset)
        header = file.read(LOCAL_HEADER.size)
    if len(header) < LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
        raise unread(what, "the archive's directory does not match its members")
    _, name, extra = LOCAL_HEADER.unpack(header)
    return int(info.header_offset + LOCAL_HEADER.size + name + extra)


def _read_member(archive: zipfile.ZipFile, path: Path, info: zipfile.ZipInfo, what: str) -> ArrayRows:
    _check_size(path, info, what)
    with cast(zipfile.ZipExtFile, archive.open(info)) as member:
        shape, fortran, dtype = read_header(member, what, info.file_size)
        offset = member.tell()
        if info.compress_type != zipfile.ZIP_STORED:
            values = read_rest(member, info.file_size - offset, what).view(dtype)
            return ArrayRows(values.reshape(shape, order="F" if fortran else "C"))
    start = _data_offset(path, info, what)
    if start + info.file_size > path.stat().st_size:
        raise unread(what, "the file ends within it")
    return map_rows(path, dtype, shape, start + offset, fortran=fortran)


def read_arrays(path: Path, *keys: str) -> tuple[ArrayRows, ...]:
    """Return the arrays `keys` of an archive, in that order.

    Raises:
        DataError: an array is missing or not numeric, or the archive is damaged, truncated or encrypted.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            for key in keys:
                if key not in members:
                    unknown_name(f"array in {path}", key, members, DataError, NAME_ARRAYS)
            return tuple(_read_member(archive, path, members[key], f"array {key!r} in {path}") for key in keys)
    except DataError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
        raise unread(path, f"no valid .npz archive ({error})") from None


class NpzReader(FileReader[schema.Npz]):
    """Reads `.npz` archives."""

    section, endings = schema.Npz, (".npz",)

    def load(self, path: Path, data: schema.Npz) -> Source:
        """Read the inputs and targets of an archive."""
        return arrays_source(path, data, read_arrays)

    def read_inputs(self, path: Path, data: schema.Npz, columns: Columns | None, features: int | None) -> Inputs:
        """Read the array of inputs; see `Reader.read_inputs`."""
        names = names_of(data.x)
        series = read_arrays(path, data.group)[0] if data.window and data.group else None
        x = joined(dict(zip(names, read_arrays(path, *names), strict=True)), f"inputs in {path}")
        return Inputs(x, groups=series)

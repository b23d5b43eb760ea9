"""The bytes of a file of a table: local or remote, packed or not."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import IO, Any

from hpcnn.data.source import check_memory, optional_import, unread
from hpcnn.errors import DataError, shortened

_BLOCK = 2**20
_PART = "Use a part of it."


@dataclass(frozen=True)
class RemoteFile:
    """A file, a folder or, with ``*``, a pattern at an address such as ``s3://bucket/table.parquet``."""

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """Its name without the folders."""
        return PurePosixPath(self.url).name

    def files(self) -> list[tuple[RemoteFile, str]]:
        """Return all files below a folder, or that match, with their paths in the folder; for a file, that alone."""
        files, path = self._place
        fs = self._import("pyarrow.fs")
        address, mark, query = self.url.partition("?")
        root, start = _before_pattern(path), _before_pattern(address)
        try:
            info = files.get_file_info(root)
            is_folder = info.type == fs.FileType.Directory
            found = files.get_file_info(fs.FileSelector(root, recursive=True)) if is_folder else []
        except (OSError, ValueError) as error:
            raise unread(self.url, error) from None
        if info.type == fs.FileType.NotFound:
            raise DataError(f"there is no {self.url}. Check the address.")
        if info.type == fs.FileType.File and "*" in address:
            raise DataError(f"{self.url} is a pattern, but its server does not list files. Give the address of one.")
        if info.type == fs.FileType.File:
            return [(self, self.name)]
        pattern = _below(path, root) if "*" in address else "*"
        inside = [_below(one.path, root) for one in found if one.is_file]
        matching = [name for name in inside if fnmatchcase(name, pattern)]
        if not matching:
            raise DataError(f"no file matches {self.url}. Check the address.")
        return [(RemoteFile(f"{start}/{name}{mark}{query}"), name) for name in matching]

    def read_bytes(self) -> bytes:
        """Return the content."""
        files, path = self._place
        try:
            with files.open_input_stream(path, compression=None) as stream:
                return stream.read()  # type: ignore[no-any-return]
        except (OSError, ValueError) as error:
            raise unread(self.url, error) from None

    @cached_property
    def _place(self) -> tuple[Any, str]:
        """The file system of pyarrow, and the path in it."""
        fs, arrow = self._import("pyarrow.fs"), self._import("pyarrow")
        try:
            return fs.FileSystem.from_uri(self.url)  # type: ignore[no-any-return]
        except arrow.ArrowInvalid:  # a protocol that pyarrow does not know
            fsspec = self._import("fsspec.core")
        except OSError as error:
            raise unread(self.url, error) from None
        try:
            found, path = fsspec.url_to_fs(self.url)
        except ValueError as error:
            raise DataError(f"{self.url} can't be opened: {shortened(error)}. Check the address.") from None
        except ImportError as error:
            raise DataError(
                f"{self.url} can't be opened: {shortened(error)}. Install with pip what is missing, or copy the file."
            ) from None
        return fs.PyFileSystem(fs.FSSpecHandler(found)), path

    def _import(self, module: str) -> Any:
        return optional_import(module, "remote", f"reading {self.url}")


File = Path | RemoteFile


def content_of(file: File) -> bytes:
    """Return the content of a file, unpacked if it begins as packed files do, whatever its name.

    Raises:
        DataError: it can't be read, is damaged, or is larger than the memory.
    """
    try:
        if isinstance(file, Path):
            if not file.is_file():
                raise unread(file, "it is no file")
            check_memory(file.stat().st_size, file, _PART)
        content = file.read_bytes()
    except OSError as error:
        raise unread(file, error.strerror or error) from None
    opener = next((opener for signature, opener in _OPENERS.items() if content.startswith(signature)), None)
    return content if opener is None else _unpacked(opener, content, file)


def is_plain(file: File) -> bool:
    """Return whether a file is a local one that is not packed, so that parts of it can be read."""
    try:
        if not isinstance(file, Path) or not file.is_file():
            return False
        with file.open("rb") as opened:
            first = opened.read(max(map(len, _OPENERS)))
    except OSError as error:
        raise unread(file, error.strerror or error) from None
    return not first.startswith(tuple(_OPENERS))


def _below(path: str, root: str) -> str:
    return PurePosixPath(path.strip("/")).relative_to(root.strip("/")).as_posix()


def _before_pattern(path: str) -> str:
    """Return a path up to the first folder or name that is a pattern."""
    return path[: path.rfind("/", 0, path.index("*"))] if "*" in path else path.rstrip("/")


def _zstandard(packed: io.BytesIO) -> IO[bytes]:
    arrow = optional_import("pyarrow", "parquet", "reading files packed by zstd")
    return arrow.CompressedInputStream(arrow.BufferReader(packed.getvalue()), "zstd")  # type: ignore[no-any-return]


_OPENERS: dict[bytes, Callable[[io.BytesIO], Any]] = {
    b"\x1f\x8b": lambda packed: gzip.GzipFile(fileobj=packed),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
    b"\x28\xb5\x2f\xfd": _zstandard,
}
"""What unpacks files with these first bytes."""


def _unpacked(opener: Callable[[io.BytesIO], Any], packed: bytes, file: File) -> bytes:
    blocks, size, checked = [], 0, 0
    try:
        with opener(io.BytesIO(packed)) as stream:
            while block := stream.read(_BLOCK):
                blocks.append(block)
                size += len(block)
                if size >= 2 * checked:  # a few bytes may hold a million zeros; the blocks are to be joined
                    check_memory(2 * size, f"{file}, unpacked,", _PART)
                    checked = size
        return b"".join(blocks)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise unread(file, error) from None

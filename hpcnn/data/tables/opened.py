"""The bytes of a file of a table: local or remote, packed or not."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import IO, Any

from hpcnn.data.source import check_memory, optional_import, unread
from hpcnn.errors import DataError, shortened

_BLOCK = 2**20


@dataclass(frozen=True)
class RemoteFile:
    """A file, a folder or a pattern at an address such as ``s3://bucket/table.parquet``."""

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """Its name without the folders."""
        return PurePosixPath(self.url).name

    @cached_property
    def _place(self) -> tuple[Any, str]:
        """The file system of pyarrow, and the path in it."""
        fs = optional_import("pyarrow.fs", "remote", f"reading {self.url}", "pyarrow")
        arrow = optional_import("pyarrow", "remote", f"reading {self.url}")
        try:
            return fs.FileSystem.from_uri(self.url)  # type: ignore[no-any-return]
        except arrow.ArrowInvalid:  # a protocol that pyarrow does not know
            fsspec = optional_import("fsspec.core", "remote", f"reading {self.url}", "fsspec")
        except OSError as error:
            raise unread(self.url, error) from None
        try:
            found, path = fsspec.url_to_fs(self.url)
        except (ValueError, ImportError) as error:
            raise DataError(f"{self.url} can't be opened: {shortened(error)}. Check the address.") from None
        return fs.PyFileSystem(fs.FSSpecHandler(found)), path

    def files(self) -> list[tuple[RemoteFile, str]]:
        """Return the files below a folder with their paths in it; for a file itself, that alone."""
        files, path = self._place
        fs = optional_import("pyarrow.fs", "remote", f"reading {self.url}", "pyarrow")
        try:
            info = files.get_file_info(path)
            if info.type == fs.FileType.File:
                return [(self, self.name)]
            if info.type == fs.FileType.NotFound:
                raise DataError(f"there is no {self.url}. Check the address.")
            found = files.get_file_info(fs.FileSelector(path, recursive=True))
        except (OSError, ValueError) as error:
            raise unread(self.url, error) from None
        inside = [
            PurePosixPath(one.path.strip("/")).relative_to(path.strip("/")).as_posix() for one in found if one.is_file
        ]
        return [(RemoteFile(f"{self.url.rstrip('/')}/{name}"), name) for name in inside]

    def read_bytes(self) -> bytes:
        """Return the content."""
        files, path = self._place
        try:
            with files.open_input_stream(path, compression=None) as stream:
                return stream.read()  # type: ignore[no-any-return]
        except (OSError, ValueError) as error:
            raise unread(self.url, error) from None


File = Path | RemoteFile


def content_of(file: File) -> bytes:
    """Return the content of a file, unpacked if it begins as packed files do, whatever its name.

    Raises:
        DataError: it can't be read, is damaged, or is larger than the memory.
    """
    try:
        if isinstance(file, Path):
            check_memory(file.stat().st_size, file, "Use a part of it.")
        packed = file.read_bytes()
    except OSError as error:
        raise unread(file, error.strerror or error) from None
    opener = next((opener for signature, opener in _OPENERS.items() if packed.startswith(signature)), None)
    return packed if opener is None else _unpacked(opener, packed, file)


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
    blocks, size = [], 0
    try:
        with opener(io.BytesIO(packed)) as stream:
            while block := stream.read(_BLOCK):
                blocks.append(block)
                size += len(block)
                if size % (64 * _BLOCK) < len(block):  # a few bytes may hold a million zeros
                    check_memory(size, f"{file}, unpacked,", "Use a part of it.")
    except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
        raise unread(file, error) from None
    return b"".join(blocks)

"""Files in tar archives, read where they lie: no archive is unpacked."""

from __future__ import annotations

import io
import os
import tarfile
import threading
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, overload

from hpcnn.data.source import unread
from hpcnn.errors import DataError, shortened

_MOST_OPEN = 64
_PACKED = {b"\x1f\x8b": "gunzip", b"BZh": "bunzip2", b"\xfd7zXZ\0": "unxz", b"\x28\xb5\x2f\xfd": "unzstd"}
"""What unpacks files that begin so."""


class Archive(NamedTuple):
    """An archive as it was found."""

    path: Path
    device: int
    inode: int
    size: int
    changed_ns: int


def archive_at(path: Path) -> Archive:
    """Return what tells the file at a path from others that are put there. DataError: it is not accessible."""
    try:
        return _archive(path, path.stat())
    except OSError as error:
        raise unread(path, error.strerror or error) from None


def _archive(path: Path, found: os.stat_result) -> Archive:
    return Archive(path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


class _OpenFiles:
    """Files that are read at any place, from any thread. Those used last stay open."""

    def __init__(self) -> None:
        self._files: dict[Archive, int] = {}
        self._lock = threading.Lock()

    def read(self, archive: Archive, offset: int, size: int) -> bytes:
        """Return the bytes at that place, fewer where the file ends. DataError: it is another one now."""
        parts = []
        with self._lock:
            file = self._files.pop(archive) if archive in self._files else _open(archive)
            self._files[archive] = file
            while size and (part := os.pread(file, size, offset)):
                parts.append(part)
                offset, size = offset + len(part), size - len(part)
            while len(self._files) > _MOST_OPEN:
                os.close(self._files.pop(next(iter(self._files))))
        return b"".join(parts)


def _open(archive: Archive) -> int:
    file = os.open(archive.path, os.O_RDONLY)
    if _archive(archive.path, os.fstat(file)) != archive:
        os.close(file)
        raise DataError(f"{archive.path} changed since the run began. Put it back as it was, or start anew.")
    return file


_FILES = _OpenFiles()


class Member(NamedTuple):
    """A file in an archive, which is read like one at a path of its own."""

    archive: Archive
    offset: int
    size: int

    def __str__(self) -> str:
        """Name it for a message, by a search in the archive."""
        try:
            name = next(
                printable(info.name) for info in headers_in(self.archive.path) if info.offset_data == self.offset
            )
        except (DataError, StopIteration):
            name = f"the file at byte {self.offset}"
        return f"{name} in {self.archive.path}"

    def read_bytes(self) -> bytes:
        """Return all of it. DataError: the archive became shorter."""
        content = _FILES.read(self.archive, self.offset, self.size)
        if len(content) < self.size:
            raise unread(
                self.archive.path, f"one of its files reaches to byte {self.offset + self.size}, where it has ended"
            )
        return content

    def open(self, _mode: Literal["rb"]) -> io.BufferedReader:
        """Return a stream of it."""
        return io.BufferedReader(_Part(self), 4096)


class _Part(io.RawIOBase):
    """A stream of a member."""

    def __init__(self, member: Member) -> None:
        self._member, self._place = member, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        place = offset + (0, self._place, self._member.size)[whence]
        if place < 0:
            raise ValueError("a place before the beginning of the file")
        self._place = place
        return place

    def readinto(self, out: memoryview) -> int:  # type: ignore[override]
        left = max(0, self._member.size - self._place)
        content = _FILES.read(self._member.archive, self._member.offset + self._place, min(len(out), left))
        out[: len(content)] = content
        self._place += len(content)
        return len(content)


class Members(Sequence[Member]):
    """Many files, three numbers each."""

    def __init__(self) -> None:
        self._archives: list[Archive] = []
        self._places = array("q")

    def append(self, member: Member) -> None:
        """Add one; those of an archive come one after the other."""
        if not self._archives or self._archives[-1] != member.archive:
            self._archives.append(member.archive)
        self._places.extend((len(self._archives) - 1, member.offset, member.size))

    def __len__(self) -> int:
        return len(self._places) // 3

    @overload
    def __getitem__(self, index: int) -> Member: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Member]: ...
    def __getitem__(self, index: int | slice) -> Member | Sequence[Member]:
        """Return the file at a place, from 0."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        which, offset, size = self._places[3 * index : 3 * index + 3]
        return Member(self._archives[which], offset, size)


class _Bounded(io.BufferedReader):
    """A file of which no more is asked for than there is: headers declare any size."""

    def __init__(self, path: Path) -> None:
        raw = io.FileIO(path)
        super().__init__(raw)
        self.length = os.fstat(raw.fileno()).st_size

    def read(self, size: int | None = -1) -> bytes:
        return super().read(self.length if size is None else min(size, self.length))


def headers_in(path: Path) -> Iterator[tarfile.TarInfo]:
    """Yield the headers of the files in an archive.

    Raises:
        DataError: it is compressed, none, damaged or cut off, or holds links.
    """
    try:
        with _Bounded(path) as file:
            start = file.read(8)
            packed = next((command for magic, command in _PACKED.items() if start.startswith(magic)), "")
            if packed:
                raise DataError(f"{path} is compressed, but its files are read in place. Unpack it: {packed} {path}")
            file.seek(0)
            yield from _headers(path, file)
    except DataError:
        raise
    except Exception as error:  # headers that are damaged lead to errors of many kinds
        raise unread(path, f"no valid tar archive ({getattr(error, 'strerror', None) or error})") from None


def _headers(path: Path, file: _Bounded) -> Iterator[tarfile.TarInfo]:
    with tarfile.TarFile(fileobj=file, errors="surrogateescape", encoding="utf-8") as archive:
        end = -1
        while (info := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # it keeps all
            if not end < info.offset < info.offset_data or info.size < 0:
                raise unread(path, f"its header at byte {info.offset} is damaged")
            end = info.offset
            if info.isdir():
                continue
            if not info.isreg() or info.issparse():
                raise DataError(
                    f"{printable(info.name)} in {path} is a link, a device or a sparse file. Make the archive of plain "
                    "files (tar --dereference --hard-dereference)."
                )
            if info.offset_data + info.size > file.length:
                raise unread(path, f"it ends within {printable(info.name)}")
            yield info
        _check_end(path, file, archive.offset)


def _check_end(path: Path, file: _Bounded, offset: int) -> None:
    """Raise DataError unless zeros follow: tarfile takes a damaged header for the end."""
    file.seek(offset)
    empty = True
    while block := file.read(2**20):
        empty = False
        if block.count(0) < len(block):
            raise unread(path, f"what follows at byte {offset} is no file: it is damaged, or several were joined")
    if empty:
        raise unread(path, "it ends without the mark of an end: it was cut off")


def printable(name: str) -> str:
    """Return the name of a file as a message can quote it."""
    return shortened("".join(one if one.isprintable() else ascii(one)[1:-1] for one in name))

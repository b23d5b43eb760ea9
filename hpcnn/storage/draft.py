"""A checkpoint's file that is being written: by one rank, or by every rank its part at its place.

No two ranks write into the same `ALIGNMENT` bytes of the file: clients of a network file system write back whole pages,
and could undo what others wrote there. So a rank takes a few entries of the chunk behind its own, and leaves as many to
the rank before. What an array has in pages that are not its own, rank 0 writes.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hpcnn.storage import hashing
from hpcnn.storage.disk import Disk, write_at
from hpcnn.storage.hashing import WEIGHTS, ContentHash, chunks, content_sha256
from hpcnn.storage.lazy import Array, LazyArray
from hpcnn.storage.part import Part
from hpcnn.storage.tensor_file import HASH_DIGITS, Beat, bytes_of, hash_place, with_hashes
from hpcnn.system.atomic import sync

ALIGNMENT = 2**16
"""The largest page in use."""


@dataclass(frozen=True)
class Share:
    """What one rank does of a file."""

    root: bool = True
    """Whether it is rank 0, which also writes all that every rank has."""
    shared: bool = False
    """Whether other ranks write too."""
    kept: float = 1.0
    """See `hpcnn.core.dealing.Dealing`."""


@dataclass(frozen=True)
class Draft:
    """A file that has its length and a header, but no hashes yet. The same for all ranks that write to it."""

    path: Path
    begin: int
    """Where the content begins."""
    token: bytes
    """Random digits, by which other ranks know the file."""
    token_place: int

    @classmethod
    def create(cls, path: Path, header: bytes, size: int) -> Draft:
        """Write the header to `path`, with a token in the place of a hash, and `size` zeros. OSError: that fails."""
        token = os.urandom(HASH_DIGITS // 2).hex()
        with path.open("wb", buffering=0) as file:  # closed, so that other hosts see it
            write_at(file.fileno(), with_hashes(header, (token,)), 0)
            os.ftruncate(file.fileno(), len(header) + size)
        return cls(path.absolute(), len(header), token.encode(), hash_place(header))

    @contextmanager
    def opened(self) -> Iterator[int]:
        """Open the file for writing. OSError: this rank can't, or does not see the file that was created."""
        with self.path.open("rb+", buffering=0) as file:
            descriptor = file.fileno()
            with suppress(OSError):  # not every file system has it
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)  # cache nothing that others are to write
            if os.pread(descriptor, len(self.token), self.token_place) != self.token:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            yield descriptor

    def write(self, descriptor: int | None, arrays: Mapping[str, LazyArray], share: Share, beat: Beat) -> Part:
        """Write and hash this rank's share of the arrays, which are in file order. Collective where they are spread.

        After an error, or without a descriptor, nothing is written, but other ranks get what they take.
        """
        with ContentHash() as content, Disk(descriptor) as disk:
            writer = _Writer(content, disk, share, beat)
            places = list(_places(arrays, self.begin))
            if share.root:
                for name, lazy, _, _ in places:
                    if name.startswith(WEIGHTS):
                        writer.hash_weights(name, lazy)
            for _, lazy, place, number in places:
                if lazy.array is None:
                    writer.write_spread(lazy, place, number)
            for name, lazy, place, number in places if share.root else ():
                if lazy.array is not None:
                    writer.write_whole(lazy.array, place, None if name.startswith(WEIGHTS) else number)
            disk.finish(synced=share.shared)
            content.wait(beat)
            return Part(disk.error, content.weights() if share.root else "", content.digests(), writer.edges)

    def complete(self, header: bytes, part: Part) -> None:
        """Write what is left when all ranks have written, and sync the file."""
        hashes = part.weights, content_sha256(header, part.weights, part.digests)
        with self.path.open("rb+", buffering=0) as file:
            for place, edge in part.edges.items():
                write_at(file.fileno(), edge, place)
            write_at(file.fileno(), with_hashes(header, hashes), 0)
            sync(file.fileno())


class _Writer:
    """Writes and hashes arrays."""

    def __init__(self, content: ContentHash, disk: Disk, share: Share, beat: Beat) -> None:
        self._content, self._disk, self._share, self._beat = content, disk, share, beat
        self.edges: dict[int, bytes] = {}

    def hash_weights(self, name: str, lazy: LazyArray) -> None:
        """Begin to hash weights, which takes longest, since one thread has to do it."""
        assert lazy.array is not None, "every rank has the weights"
        self._content.begin_array(name, lazy.dtype, lazy.shape, wait=False)
        data = bytes_of(lazy.array)
        for part in chunks(len(data)):
            self._content.add_weights(data[part], wait=False)
            self._beat()

    def write_whole(self, array: Array, place: int, number: int | None) -> None:
        """Write an array to its place, and hash it unless `number`, that of its first chunk, is None."""
        data = bytes_of(array)
        for count, part in enumerate(chunks(len(data))):
            if number is not None:
                self._content.add(number + count, data[part])
            self._disk.write(data[part], place + part.start)
            self._beat()

    def write_spread(self, lazy: LazyArray, place: int, number: int) -> None:
        """Write and hash what this rank takes of a spread array."""
        share, end = self._share, place + lazy.size_bytes
        margin = -place % ALIGNMENT if share.shared else 0
        first, last = (place, end) if share.root else _whole_pages(place, end)
        for chunk in lazy.chunks(margin_bytes=margin, shared=share.shared, kept=share.kept):
            data, start = bytes_of(chunk.entries), place + chunk.number * hashing.CHUNK
            hashed = data[: min(hashing.CHUNK, end - start)]
            if hashed:
                self._content.add(number + chunk.number, hashed)
            skipped = chunk.skipped * lazy.dtype.itemsize
            begin = min(start + skipped, start + len(data))
            for lo, hi, inside in _cut(begin, start + len(data), first, last):
                if inside:
                    self._disk.write(data[lo - start : hi - start], lo)
                else:
                    self.edges[lo] = bytes(data[lo - start : hi - start])
            self._beat()


def _places(arrays: Mapping[str, LazyArray], begin: int) -> Iterator[tuple[str, LazyArray, int, int]]:
    """Yield each array with its place in the file, and the number of its first chunk if it is none of the weights."""
    place, number = begin, 0
    for name, lazy in arrays.items():
        yield name, lazy, place, number
        place += lazy.size_bytes
        number += 0 if name.startswith(WEIGHTS) else -(-lazy.size_bytes // hashing.CHUNK)


def _whole_pages(start: int, stop: int) -> tuple[int, int]:
    """Return where the first whole page within some bytes starts, and the last one stops."""
    first = min(-(-start // ALIGNMENT) * ALIGNMENT, stop)
    return first, max(stop // ALIGNMENT * ALIGNMENT, first)


def _cut(start: int, stop: int, first: int, last: int) -> Iterator[tuple[int, int, bool]]:
    """Yield what of some bytes lies before, within and behind others, and whether it is within."""
    for lo, hi, inside in ((start, first, False), (first, last, True), (last, stop, False)):
        lo, hi = max(lo, start), min(hi, stop)
        if lo < hi:
            yield lo, hi, inside

"""Memory that the ranks of one host share.

A segment is an anonymous file in memory (memfd), which one rank creates and the others map. Unlike the segments of MPI
windows it needs no space in /dev/shm, fails at once when memory is short, and is freed with the last process that maps
it, however that ends.
"""

from __future__ import annotations

import mmap
import os
import resource
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hpcnn.errors import CommunicatorError

Bytes = NDArray[np.uint8]


class SharedMemoryError(CommunicatorError):
    """The ranks of a host can't share memory."""


class HostMemory(Protocol):
    """The ranks that share memory. Every method is collective among them."""

    rank: int
    size: int

    def allocate(self, size: int) -> list[Bytes]:
        """Return one zeroed, page-aligned segment per rank, by rank; this rank's own holds `size` bytes."""
        ...

    def allocate_common(self, size: int) -> Bytes:
        """Return one zeroed, page-aligned segment of `size` bytes for all of them together."""
        ...

    def barrier(self, *, spin: bool = True) -> None:
        """Return once every rank has come here, and sees what the others wrote before.

        Without `spin`, occupy no core meanwhile.
        """
        ...


class PrivateMemory:
    """The memory of one rank, which is not shared."""

    rank = 0
    size = 1

    def allocate(self, size: int) -> list[Bytes]:
        """Return one segment."""
        return [self.allocate_common(size)]

    def allocate_common(self, size: int) -> Bytes:
        """Return a segment."""
        return np.frombuffer(mmap.mmap(-1, _whole_pages(size)), np.uint8)

    def barrier(self, *, spin: bool = True) -> None:
        """Return at once."""


class SharedMemory:
    """The shared memory of processes on one host.

    Args:
        rank: this rank among them.
        size: their number.
        allgather: returns every rank's small object, by rank.
        meet: waits for all of them; see `HostMemory.barrier`.
        meet_without_spinning: the same, without occupying a core.
    """

    def __init__(
        self,
        rank: int,
        size: int,
        allgather: Callable[[Any], list[Any]],
        meet: Callable[[], None],
        meet_without_spinning: Callable[[], None],
    ) -> None:
        self.rank, self.size = rank, size
        self._allgather, self._meet, self._meet_without_spinning = allgather, meet, meet_without_spinning
        # Python keeps a file open for each mapping, and there is one per neighbour.
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    def allocate(self, size: int) -> list[Bytes]:
        """Return one segment per rank.

        Raises:
            SharedMemoryError: on all ranks alike, if memory is short or the ranks can't open each other's.
        """
        with ExitStack() as files:
            offers = self._agree(lambda: _create(files, size, reserve=True))
            segments: list[Bytes] = []
            self._agree(lambda: segments.extend(_attach(files, offer) for offer in offers))
            self._erase_token(offers[self.rank])
        return segments

    def allocate_common(self, size: int) -> Bytes:
        """Return one segment for all. Each rank places an equal part of it in its own NUMA domain.

        Raises:
            SharedMemoryError: as for `allocate`.
        """
        with ExitStack() as files:
            offer, *_ = self._agree(lambda: _create(files, size, reserve=False))
            segments: list[Bytes] = []
            self._agree(lambda: segments.append(_attach(files, offer, share=(self.rank, self.size))))
            if self.rank == 0:
                self._erase_token(offer)
            else:
                self._meet()
        return segments[0]

    def barrier(self, *, spin: bool = True) -> None:
        """Wait for all ranks of the host."""
        (self._meet if spin else self._meet_without_spinning)()

    def _agree(self, action: Callable[[], Any]) -> list[Any]:
        """Return what `action` returned on every rank, or raise on all of them."""
        value, trouble = None, ""
        try:
            value = action()
        except (OSError, ValueError) as error:
            trouble = str(error)
        replies = self._allgather((value, trouble))
        for rank, (_, found) in enumerate(replies):
            if found:
                raise SharedMemoryError(f"rank {rank} of the node can't share memory: {found}")
        return [reply for reply, _ in replies]

    def _erase_token(self, own: _FileAddress) -> None:
        os.pwrite(own.file, bytes(len(own.token)), 0)
        self._meet()


@dataclass(frozen=True)
class _FileAddress:
    """Where the other ranks find and open a rank's file."""

    process: int
    file: int
    size: int
    token: bytes
    """The content that identifies the file: process numbers differ between containers."""


def _create(files: ExitStack, size: int, *, reserve: bool) -> _FileAddress:
    whole = _whole_pages(size)
    if whole > os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE:  # the kernel would accept it, and kill a process later
        raise OSError(f"{whole} bytes are more than this machine has")
    file = file_in_memory()
    files.callback(os.close, file)  # mappings outlive it
    os.ftruncate(file, whole)
    if reserve:  # fails here, instead of a bus error when a page is first written
        os.posix_fallocate(file, 0, whole)
    token = os.urandom(16)
    os.pwrite(file, token, 0)
    return _FileAddress(os.getpid(), file, whole, token)


def file_in_memory(label: str = "hpcnn") -> int:
    """Return a new file without a path; the system shows `label`."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(label)
    return os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR, 0o600)  # a Python that was built for old systems


def _attach(files: ExitStack, offer: _FileAddress, *, share: tuple[int, int] | None = None) -> Bytes:
    file = os.open(f"/proc/{offer.process}/fd/{offer.file}", os.O_RDWR)
    files.callback(os.close, file)
    if os.pread(file, len(offer.token), 0) != offer.token:
        raise OSError(f"process {offer.process} is not the same one to all ranks")
    if share is not None:
        part, parts = share
        pages = offer.size // mmap.PAGESIZE
        start, stop = (pages * place // parts * mmap.PAGESIZE for place in (part, part + 1))
        if start < stop:
            os.posix_fallocate(file, start, stop - start)
    return np.frombuffer(mmap.mmap(file, offer.size), np.uint8)


def _whole_pages(size: int) -> int:
    return max(1, -(-size // mmap.PAGESIZE)) * mmap.PAGESIZE


class CommonArray:
    """An array that the ranks of a `HostMemory` share.

    Args:
        memory: the ranks.
        array: their one copy.
        broadcast: overwrites every copy with that of rank 0.
    """

    def __init__(self, memory: HostMemory, array: NDArray[Any], broadcast: Callable[[NDArray[Any]], None]) -> None:
        self.array = array
        self.rank, self.size = memory.rank, memory.size
        self.writes = memory.rank == 0
        self._memory, self._broadcast = memory, broadcast

    def barrier(self) -> None:
        """Return once every rank that shares the copy has come here."""
        self._memory.barrier()

    def broadcast(self) -> None:
        """Overwrite every copy with that of rank 0."""
        self._broadcast(self.array)

"""Memory that ranks share, with threads in the place of processes: they too map each segment once a rank."""

from __future__ import annotations

import dataclasses
import gc
import mmap
import os
import resource
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcnn.comm.shared_memory import Bytes, HostMemory, PrivateMemory, SharedMemory, SharedMemoryError
from hpcnn.comm.threads import ThreadCommunicator, ThreadMemory, run_threads
from hpcnn.errors import CommunicatorError

PAGE = mmap.PAGESIZE
RANKS = 3


def shared(comm: ThreadCommunicator) -> SharedMemory:
    return SharedMemory(comm.rank, comm.size, comm.allgather, comm.barrier, comm.barrier)


def of_threads(comm: ThreadCommunicator) -> HostMemory:
    memory = comm._place.memory
    assert isinstance(memory, ThreadMemory)
    return memory


KINDS = pytest.mark.parametrize("kind", [shared, of_threads])
Kind = Callable[[ThreadCommunicator], HostMemory]


def check_fresh(segment: Bytes, size: int) -> None:
    assert segment.dtype == np.uint8
    assert size <= segment.size <= max(1, -(-size // PAGE)) * PAGE
    assert segment.ctypes.data % PAGE == 0
    assert not segment.any()


@KINDS
@pytest.mark.parametrize("size", [0, 1, PAGE, 5 * PAGE + 1])
def test_each_rank_sees_what_its_neighbours_write(kind: Kind, size: int) -> None:
    def body(comm: ThreadCommunicator) -> None:
        memory = kind(comm)
        assert (memory.rank, memory.size) == (comm.rank, comm.size)
        segments = memory.allocate(size * (1 + comm.rank))  # sizes may differ
        for rank, segment in enumerate(segments):
            check_fresh(segment, size * (1 + rank))
        memory.barrier()
        segments[comm.rank][...] = 1 + comm.rank
        memory.barrier(spin=False)
        assert all((segment == 1 + rank).all() for rank, segment in enumerate(segments))

    run_threads(RANKS, body)


def test_a_python_without_memfd_shares_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """As conda's, which are built for old systems."""
    monkeypatch.delattr(os, "memfd_create")

    def body(comm: ThreadCommunicator) -> None:
        memory = shared(comm)
        segment = memory.allocate_common(PAGE)
        check_fresh(segment, PAGE)
        memory.barrier()
        segment[comm.rank] = 1 + comm.rank
        memory.barrier()
        assert segment[: comm.size].tolist() == [1, 2, 3]

    run_threads(RANKS, body)


@KINDS
@pytest.mark.parametrize("pages", [0, 1, 2, 3, 7])
def test_one_segment_for_all(kind: Kind, pages: int) -> None:
    def body(comm: ThreadCommunicator) -> None:
        memory = kind(comm)
        segment = memory.allocate_common(pages * PAGE)
        check_fresh(segment, pages * PAGE)
        memory.barrier()
        segment[comm.rank :: comm.size] = 1 + comm.rank
        memory.barrier()
        assert all((segment[rank :: comm.size] == 1 + rank).all() for rank in range(comm.size))

    run_threads(RANKS, body)


def test_one_rank_alone() -> None:
    memory = PrivateMemory()
    (segment,) = memory.allocate(PAGE + 1)
    check_fresh(segment, PAGE + 1)
    check_fresh(memory.allocate_common(0), 0)
    memory.barrier(spin=False)


def open_files() -> list[str]:
    return [str(path) for path in Path("/proc/self/fd").iterdir()]


def mappings() -> list[str]:
    return [line for line in Path("/proc/self/maps").read_text().splitlines() if "memfd:hpcnn" in line]


def test_the_memory_goes_with_its_last_array() -> None:
    gc.collect()
    files, mapped = len(open_files()), len(mappings())

    def body(comm: ThreadCommunicator) -> list[Bytes]:
        memory = shared(comm)
        return [*memory.allocate(PAGE), memory.allocate_common(PAGE)]

    arrays = run_threads(RANKS, body)
    assert len(mappings()) - mapped == RANKS * (RANKS + 1)
    assert len(open_files()) - files <= RANKS * (RANKS + 1)  # Python keeps a file open as long as it maps it
    del arrays
    gc.collect()
    assert (len(open_files()), len(mappings())) == (files, mapped)


@pytest.fixture
def little_memory() -> Iterator[int]:
    """A limit on the size of files, which those in memory are under as well."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = 100 * PAGE
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("culprit", [0, 2])
def test_too_much_on_one_rank_is_an_error_on_all(little_memory: int, culprit: int) -> None:
    def body(comm: ThreadCommunicator) -> None:
        memory = shared(comm)
        words = rf"rank {culprit} of the node can't share memory: .*File too large"
        with pytest.raises(SharedMemoryError, match=words):
            memory.allocate(2 * little_memory if comm.rank == culprit else PAGE)
        with pytest.raises(SharedMemoryError, match=r"rank 0 of the node can't share memory: .*File too large"):
            memory.allocate_common(2 * little_memory)
        assert len(memory.allocate(PAGE)) == comm.size  # still in step

    gc.collect()
    files = len(open_files())
    run_threads(RANKS, body)
    gc.collect()
    assert len(open_files()) == files


def test_memory_is_there_before_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or else a page that is not to be had kills the process that first writes it."""

    def full(file: int, start: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    def body(comm: ThreadCommunicator) -> None:
        for allocate in (shared(comm).allocate, shared(comm).allocate_common):
            with pytest.raises(SharedMemoryError, match=r"rank 0 of the node can't share memory: .*No space left"):
                allocate(10 * PAGE)

    monkeypatch.setattr(os, "posix_fallocate", full)
    run_threads(RANKS, body)
    assert issubclass(SharedMemoryError, CommunicatorError)


def test_every_page_is_placed_by_one_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    places: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "posix_fallocate", lambda file, start, size: places.append((start, start + size)))
    run_threads(RANKS, lambda comm: shared(comm).allocate_common(8 * PAGE))
    assert sorted(places) == [(0, 2 * PAGE), (2 * PAGE, 5 * PAGE), (5 * PAGE, 8 * PAGE)]


def test_waiting_without_spinning_is_another_way_to_wait() -> None:
    waited: list[str] = []
    memory = SharedMemory(0, 1, lambda mine: [mine], lambda: waited.append("spins"), lambda: waited.append("sleeps"))
    memory.barrier(spin=False)
    memory.barrier()
    assert waited == ["sleeps", "spins"]


def second_of_two(allgather: Callable[[Any], list[Any]]) -> SharedMemory:
    return SharedMemory(1, 2, allgather, lambda: None, lambda: None)


def memory_file(content: bytes) -> int:
    file = os.memfd_create("other")
    os.write(file, content)
    return file


STRANGERS: dict[str, tuple[Callable[[], list[int]], str]] = {
    "a file in memory": (lambda: [memory_file(b"x" * PAGE)], "is not the same one to all ranks"),
    "a short file": (lambda: [memory_file(b"x")], "is not the same one to all ranks"),
    "a pipe": (lambda: list(os.pipe()), "Illegal seek"),
    "a socket": (lambda: [socket.socket().detach()], "No such device or address"),
    "a folder": (lambda: [os.open("/", os.O_RDONLY)], "Is a directory"),
    "nothing": (list, "No such file or directory"),
}
"""What may be found where a neighbour's file should be, if it numbers processes in another way."""


@pytest.mark.parametrize(("make_strangers", "words"), STRANGERS.values(), ids=STRANGERS)
@pytest.mark.parametrize("common", [False, True])
def test_a_neighbour_that_numbers_processes_in_another_way_is_found_out(
    make_strangers: Callable[[], list[int]], words: str, common: bool
) -> None:
    strangers = make_strangers()

    def allgather(mine: tuple[Any, str]) -> list[Any]:
        offer, _ = mine
        theirs = dataclasses.replace(offer, file=(*strangers, 1_000_000)[0]) if offer else None
        return [(theirs, ""), mine]

    memory = second_of_two(allgather)
    try:
        with pytest.raises(SharedMemoryError, match=f"rank 1 of the node can't share memory: .*{words}"):
            (memory.allocate_common if common else memory.allocate)(PAGE)
    finally:
        for file in strangers:
            os.close(file)


def test_a_neighbour_that_is_gone_is_found_out() -> None:
    def allgather(mine: tuple[Any, str]) -> list[Any]:
        offer, _ = mine
        return [(dataclasses.replace(offer, process=2**22 + 1) if offer else None, ""), mine]  # no number is so large

    with pytest.raises(SharedMemoryError, match=r"rank 1 of the node can't share memory: .*No such file"):
        second_of_two(allgather).allocate(PAGE)

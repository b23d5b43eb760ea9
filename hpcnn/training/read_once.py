"""Data that are read into memory once a node: one rank reads them, and all ranks of the node share its arrays."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hpcnn.comm.collectives import gather_or_raise
from hpcnn.comm.protocol import Communicator
from hpcnn.core.activity import SET_UP
from hpcnn.data.chunks import stored
from hpcnn.data.rows import Rows, in_memory
from hpcnn.data.source import Inputs, Source, check_memory

T = TypeVar("T", Source, Inputs)
Bytes = NDArray[np.uint8]
_ALIGNMENT, _LENGTH = 64, 8
_COPIED = 2**26
"""Bytes that are copied between two signs of progress."""


def read_once(read: Callable[[], T], comm: Communicator) -> T:
    """Return what `read` returns, with arrays in memory that the ranks of a node share. Collective, within `agree`.

    The first rank of each node reads. Where the data are not in memory, as those of mapped files, every rank reads:
    that costs next to nothing. `read` returns the same on all ranks of a node.

    Raises:
        DataError: as `read` does, or there is no room for the copy that the ranks share.
    """
    if comm.hosts == comm.size:  # no ranks share memory
        return read()
    found = read() if comm.local_rank == 0 else None
    packed = None if found is None else _packed(found)
    size = None if packed is None else packed.size
    if size is not None and comm.local_size > 1:
        check_memory(size, "a copy of the data that all ranks share", "Give mapped files, as .npy, or fewer data.")
    sizes = gather_or_raise(comm, (comm.local_rank == 0, size))
    if any(reads and size is None for reads, size in sizes):
        return read() if found is None else found
    memory = comm.host_array(max(size for _, size in sizes if size is not None), np.uint8, shared=True)
    if memory.size < comm.local_size:  # it turned out that they can't share any
        return read() if found is None else found
    if packed is not None:
        packed.write(memory.array, comm)
    del found, packed
    gather_or_raise(comm, None)  # all is written
    return _unpacked(memory.array)  # type: ignore[no-any-return]


class _Packed:
    """An object as bytes: what it is made of, then its arrays one by one."""

    def __init__(self, pickled: bytes, arrays: Sequence[memoryview]) -> None:
        self._arrays = arrays
        self._head = pickle.dumps((pickled, [len(array) for array in arrays]))
        self.places, self.size = _places(len(self._head), [len(array) for array in arrays])

    def write(self, out: Bytes, comm: Communicator) -> None:
        out[:_LENGTH] = np.frombuffer(np.int64(len(self._head)).tobytes(), np.uint8)
        out[_LENGTH : _LENGTH + len(self._head)] = np.frombuffer(self._head, np.uint8)
        for start, array in zip(self.places, self._arrays, strict=True):
            values = np.frombuffer(array, np.uint8)
            for first in range(0, len(values), _COPIED):
                part = values[first : first + _COPIED]
                out[start + first : start + first + len(part)] = part
                comm.activity.enter(SET_UP)


def _places(head: int, lengths: Sequence[int]) -> tuple[list[int], int]:
    """Return where each array begins, and the size of all."""
    found, end = [], _LENGTH + head
    for length in lengths:
        start = -(-end // _ALIGNMENT) * _ALIGNMENT
        found.append(start)
        end = start + length
    return found, end


def _packed(found: Source | Inputs) -> _Packed | None:
    """Return data in memory as bytes; None of others."""
    arrays = found.arrays if isinstance(found, Source) else (found.x,)
    if not all(map(_is_portable, arrays)):
        return None
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(found, protocol=5, buffer_callback=buffers.append)
    return _Packed(pickled, [buffer.raw() for buffer in buffers])


def _is_portable(rows: Rows) -> bool:
    """Return whether rows can be given to other processes: all is in memory, or they say so themselves."""
    return all(getattr(one, "portable", False) or in_memory(one) for one in stored(rows))


def _unpacked(memory: Bytes) -> Any:
    """Return the object, whose arrays are parts of `memory` that can only be read."""
    length = int(memory[:_LENGTH].view(np.int64)[0])
    pickled, lengths = pickle.loads(memory[_LENGTH : _LENGTH + length].data)  # of a rank of this job
    places, _ = _places(length, lengths)
    view = memory.data.toreadonly()
    buffers = [view[start : start + size] for start, size in zip(places, lengths, strict=True)]
    return pickle.loads(pickled, buffers=buffers)

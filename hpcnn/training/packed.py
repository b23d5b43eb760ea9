"""Data as bytes that several processes can share: what they are made of, then their arrays one by one."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcnn.data.chunks import stored
from hpcnn.data.rows import Rows, in_memory
from hpcnn.data.source import Inputs, Source

Bytes = NDArray[np.uint8]
_ALIGNMENT, _LENGTH = 64, 8
_PIECE = 2**26
"""Most bytes of a piece."""


class Packed:
    """An object as bytes: what it is made of, then its arrays one by one."""

    def __init__(self, pickled: bytes, arrays: Sequence[memoryview]) -> None:
        self._arrays = arrays
        self._head = pickle.dumps((pickled, [len(array) for array in arrays]))
        self._places, self.size = _places(len(self._head), [len(array) for array in arrays])

    def parts(self) -> Iterator[tuple[int, memoryview]]:
        """Yield pieces of the `size` bytes, each with its place; what is between them is never read."""
        yield 0, memoryview(np.int64(len(self._head)).tobytes())
        yield _LENGTH, memoryview(self._head)
        for start, array in zip(self._places, self._arrays, strict=True):
            for first in range(0, len(array), _PIECE):
                yield start + first, array[first : first + _PIECE]


def _places(head: int, lengths: Sequence[int]) -> tuple[list[int], int]:
    """Return where each array begins, and the size of all."""
    found, end = [], _LENGTH + head
    for length in lengths:
        start = -(-end // _ALIGNMENT) * _ALIGNMENT
        found.append(start)
        end = start + length
    return found, end


def pack(found: Source | Inputs) -> Packed | None:
    """Return data in memory as bytes; None of others."""
    arrays = (*found.arrays, *found.others) if isinstance(found, Source) else (found.x,)
    if not all(map(_is_portable, arrays)):
        return None
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(found, protocol=5, buffer_callback=buffers.append)
    return Packed(pickled, [buffer.raw() for buffer in buffers])


def _is_portable(rows: Rows) -> bool:
    """Return whether rows can be given to other processes: all is in memory, or they say so themselves."""
    return all(getattr(one, "portable", False) or in_memory(one) for one in stored(rows))


def unpack(memory: Bytes) -> Any:
    """Return the object, whose arrays are parts of `memory` that can only be read."""
    length = int(memory[:_LENGTH].view(np.int64)[0])
    pickled, lengths = pickle.loads(memory[_LENGTH : _LENGTH + length].data)
    places, _ = _places(length, lengths)
    view = memory.data.toreadonly()
    buffers = [view[start : start + size] for start, size in zip(places, lengths, strict=True)]
    return pickle.loads(pickled, buffers=buffers)

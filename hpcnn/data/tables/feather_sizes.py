"""The memory that a Feather file takes when unpacked, as its own records say: few bytes may declare any number.

The format is that of Arrow's files, https://arrow.apache.org/docs/format/Columnar.html: FlatBuffers, of which this
reads the lengths of packed buffers alone.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

_MAGIC = b"ARROW1"
_BLOCK = struct.Struct("<qi4xq")
"""Offset, length of the metadata, length of the body."""
_BUFFER = struct.Struct("<qq")
"""Offset in the body, length."""
_DICTIONARIES, _BATCHES = 2, 3
"""Fields of the footer."""
_KIND, _HEADER = 1, 2
"""Fields of a message."""
_OF_DICTIONARY, _OF_BATCH = 2, 3
"""Kinds of messages."""
_DATA, _BUFFERS, _COMPRESSION = 1, 2, 3
"""Fields of a dictionary, and of a batch of rows."""


def unpacked_bytes(content: memoryview) -> int:
    """Return how many bytes the packed buffers of a file declare, 0 if none is packed.

    Raises:
        ValueError: the records that say so are damaged.
    """
    try:
        return sum(_declared(content))
    except (struct.error, IndexError) as error:
        raise ValueError(f"its records are damaged: {error}") from None


class _Table:
    """A table of a FlatBuffer, whose fields have numbers."""

    def __init__(self, data: memoryview, place: int) -> None:
        self._data, self._place = data, place
        self._fields = place - _number("<i", data, place)
        self._size = _number("<H", data, self._fields)

    @classmethod
    def root(cls, data: memoryview) -> _Table:
        return cls(data, _number("<I", data, 0))

    def place(self, field: int) -> int | None:
        """Return where a field is, None if it is absent."""
        entry = 4 + 2 * field
        offset = _number("<H", self._data, self._fields + entry) if entry < self._size else 0
        return self._place + offset if offset else None

    def table(self, field: int) -> _Table | None:
        place = self.place(field)
        return None if place is None else _Table(self._data, place + _number("<I", self._data, place))

    def structs(self, field: int, form: struct.Struct) -> Iterator[tuple[Any, ...]]:
        """Yield the entries of a vector."""
        place = self.place(field)
        if place is not None:
            start = place + _number("<I", self._data, place)
            for number in range(_number("<I", self._data, start)):
                yield form.unpack_from(self._data, start + 4 + number * form.size)

    def byte(self, field: int) -> int:
        place = self.place(field)
        return 0 if place is None else self._data[place]


def _number(form: str, data: memoryview, place: int) -> int:
    if place < 0:  # which counts from the end
        raise IndexError(f"no byte {place}")
    return int(struct.unpack_from(form, data, place)[0])


def _declared(content: memoryview) -> Iterator[int]:
    end = len(content) - len(_MAGIC) - 4
    footer = _Table.root(content[end - _number("<i", content, end) : end])
    for field in (_DICTIONARIES, _BATCHES):
        for offset, metadata, body in footer.structs(field, _BLOCK):
            if min(offset, metadata, body) < 0 or offset + metadata + body > len(content):
                raise IndexError(f"a block of {metadata} and {body} bytes at {offset}, of {len(content)} bytes")
            yield from _of_block(content[offset : offset + metadata], content[offset + metadata :][:body])


def _of_block(metadata: memoryview, body: memoryview) -> Iterator[int]:
    start = 8 if bytes(metadata[:4]) == b"\xff\xff\xff\xff" else 4  # older files lack this mark
    message = _Table.root(metadata[start:])
    batch = message.table(_HEADER)
    if batch is not None and message.byte(_KIND) == _OF_DICTIONARY:
        batch = batch.table(_DATA)
    if batch is None or message.byte(_KIND) not in (_OF_DICTIONARY, _OF_BATCH) or batch.place(_COMPRESSION) is None:
        return
    for offset, length in batch.structs(_BUFFERS, _BUFFER):
        if length:
            yield max(0, _number("<q", body, offset))  # -1: it is stored as it is

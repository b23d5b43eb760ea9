"""Decoded data in memory that the ranks of a node share: one copy a node, decoded by all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from hpcnn.comm.collectives import allreduce_or_raise, meet_or_raise
from hpcnn.comm.protocol import Communicator
from hpcnn.core.activity import SET_UP
from hpcnn.data.chunks import chunk_rows_of, replaced, stored
from hpcnn.data.rows import ArrayRows, Rows
from hpcnn.data.source import Source, check_memory
from hpcnn.errors import DataError
from hpcnn.system.free_memory import free_memory

AUTOMATIC_SHARE = 4
"""`keep = "auto"` takes at most one part in this many of the memory that is free."""


def kept(source: Source, keep: Literal["auto", "memory", "file"], comm: Communicator) -> Source:
    """Return the source with what is decoded in chunks in memory, as far as `keep` says. Collective, within `agree`.

    Raises:
        DataError: it is to be kept, but the memory of some host is too small, or the file is damaged.
    """
    decoded = [rows for array in source.arrays for rows in stored(array) if chunk_rows_of(rows)]
    if keep == "file" or not decoded:
        return source
    chosen = _chosen(sorted(decoded, key=_nbytes), keep, comm)
    held = {id(rows): _decode(rows, comm) for rows in chosen}

    def other(array: Rows) -> Rows:
        return replaced(array, lambda rows: held.get(id(rows), rows))

    x, y, *validation = map(other, source.arrays)
    return replace(source, x=x, y=y, validation=(validation[0], validation[1]) if validation else None)


def _nbytes(rows: Rows) -> int:
    return math.prod(rows.shape) * rows.dtype.itemsize


def _chosen(decoded: Sequence[Rows], keep: str, comm: Communicator) -> list[Rows]:
    """Return those rows, of `decoded` from the smallest to the largest, that are kept; the same on all ranks."""
    known = free_memory()
    free = allreduce_or_raise(comm, math.inf if known is None else known, min)
    if keep == "memory":
        needed = sum(map(_nbytes, decoded))
        if needed > free:
            check_memory(needed, 'data.keep = "memory"', 'Set it to "file".')
            raise DataError(f'data.keep = "memory" takes {needed} bytes, but a host has {free:.0f}. Set it to "file".')
        return list(decoded)
    taken, chosen = 0, []
    for rows in decoded:
        taken += _nbytes(rows)
        if taken * AUTOMATIC_SHARE <= free:
            chosen.append(rows)
    return chosen


def _decode(rows: Rows, comm: Communicator) -> Rows:
    """Return the rows in memory. Collective."""
    memory = comm.host_array(math.prod(rows.shape), rows.dtype, shared=True)
    values, size = memory.array.reshape(rows.shape), chunk_rows_of(rows)
    for first in range(memory.rank * size, len(values), memory.size * size):
        part = values[first : first + size]
        rows.take(np.arange(first, first + len(part), dtype=np.int64), part)
        comm.activity.enter(SET_UP)
    meet_or_raise(comm)  # every rank has written its part
    return ArrayRows(values)

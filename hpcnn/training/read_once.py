"""Data that are read into memory once a node: one rank reads them, and all ranks of the node share its arrays."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from hpcnn.comm.collectives import allreduce_or_raise, meet_or_raise
from hpcnn.comm.protocol import Communicator
from hpcnn.core.activity import SET_UP
from hpcnn.data.source import Inputs, Source, check_memory
from hpcnn.training.packed import pack, unpack

T = TypeVar("T", Source, Inputs)


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
    packed = None if found is None else pack(found)
    size = None if packed is None else packed.size
    if size is not None and comm.local_size > 1:
        check_memory(size, "a copy of the data that all ranks share", "Give mapped files, as .npy, or fewer data.")
    most = allreduce_or_raise(comm, 0 if comm.local_rank else math.inf if size is None else size, max)
    if most == math.inf:  # some host maps files
        return read() if found is None else found
    memory = comm.host_array(int(most), np.uint8, shared=True)
    if memory.size < comm.local_size:  # it turned out that they can't share any
        return read() if found is None else found
    if packed is not None:
        for start, piece in packed.parts():
            memory.array[start : start + len(piece)] = np.frombuffer(piece, np.uint8)
            comm.activity.enter(SET_UP)
    del found, packed
    meet_or_raise(comm)  # all is written
    return unpack(memory.array)  # type: ignore[no-any-return]

"""Messages between ranks through MPI: set up once, started each step, of any size."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from hpcnn.comm.exchange.plan import Topology
from hpcnn.comm.protocol import Array
from hpcnn.comm.shared_memory import Bytes
from hpcnn.comm.ulfm import loss_check
from hpcnn.system.memory import aligned_empty

if TYPE_CHECKING:
    from mpi4py import MPI

    from hpcnn.comm.exchange.transport import Message

POLL_S = 50e-6
"""Between two looks of a thread that waits beside the computation."""

MOST_BYTES = 2**31 - 1
"""What a count of MPI 3 can say."""

_CHUNK = 2**20

PIECE_BYTES = 2**19
"""Longer messages are sent in pieces: over TCP some MPIs send a long one and receive another in turn, not at once."""


def byte_message(array: Array, most: int = MOST_BYTES) -> list[Any]:
    """Return a contiguous array as a message: of bytes, or of one large item where there are more bytes than `most`.

    Works with any MPI 3; only MPI 4 has calls with large counts, and not all of its implementations.
    """
    from mpi4py import MPI

    data = array.reshape(-1).view(np.uint8)
    if data.size <= most:
        return [data, data.size, MPI.BYTE]
    return [data, 1, large_type(data.size)]


def large_type(size: int) -> MPI.Datatype:
    """Return a committed type of `size` contiguous bytes."""
    from mpi4py import MPI

    chunks, rest = divmod(size, _CHUNK)
    chunk = MPI.BYTE.Create_contiguous(_CHUNK)
    whole = MPI.Datatype.Create_struct([chunks, rest], [0, chunks * _CHUNK], [chunk, MPI.BYTE]).Commit()
    chunk.Free()
    return whole


def _pieces(array: Array) -> list[list[Any]]:
    data = array.reshape(-1).view(np.uint8)
    return [byte_message(data[start : start + PIECE_BYTES]) for start in range(0, data.size, PIECE_BYTES)]


class MpiTransfer:
    """Persistent requests. `look` raises an error if a rank has died."""

    def __init__(self, requests: Sequence[MPI.Prequest], look: Callable[[], None]) -> None:
        from mpi4py import MPI

        self._requests, self._look = list(requests), look
        self._start_all, self._wait_all = MPI.Prequest.Startall, MPI.Request.Waitall
        self._test_all = MPI.Request.Testall

    def start(self) -> None:
        """Let the messages go."""
        if self._requests:
            self._start_all(self._requests)

    def wait(self, *, spin: bool) -> None:
        """Return once all have come."""
        if not self._requests:
            return
        if spin:
            self._wait_all(self._requests)
        else:
            while not self._test_all(self._requests):
                time.sleep(POLL_S)
        self._look()

    def free(self) -> None:
        """Forget them."""
        for request in self._requests:
            request.Free()
        self._requests = []


class MpiLinks:
    """Links over a communicator of their own."""

    def __init__(self, world: MPI.Intracomm) -> None:
        self.world = world
        self._look = loss_check(world)

    def transfer(self, sends: Sequence[Message], receives: Sequence[Message], tag: int) -> MpiTransfer:
        """Return a transfer of contiguous arrays."""
        world = self.world
        posted = [world.Recv_init(piece, source=rank, tag=tag) for rank, array in receives for piece in _pieces(array)]
        sent = [world.Send_init(piece, dest=rank, tag=tag) for rank, array in sends for piece in _pieces(array)]
        return MpiTransfer([*posted, *sent], self._look)

    def allgather(self, own: Array, counts: Sequence[int]) -> Array:
        """Return the float64 vectors of all ranks, one after the other."""
        everyone = np.empty(sum(counts))
        self.world.Allgatherv(own, [everyone, list(counts)])
        return everyone


class WorldGather:
    """The gathering of ranks on several hosts, for `hpcnn.comm.exchange.allgather_exchange.AllgatherExchange`."""

    def __init__(self, world: MPI.Intracomm, topology: Topology, sizes: Sequence[int]) -> None:
        from mpi4py import MPI

        counts, starts = [0] * world.size, [0] * world.size
        for rank, size, end in zip(topology.order, sizes, accumulate(sizes), strict=True):
            counts[rank], starts[rank] = size, end - size
        self.buffers: Sequence[Bytes] = [aligned_empty(sum(sizes), np.uint8)]
        self._world, self._message = world, [self.buffers[0], counts, starts, MPI.BYTE]

    def __call__(self, own: Bytes) -> int:
        """Gather by one Allgatherv."""
        self._world.Allgatherv(own, self._message)
        return 0

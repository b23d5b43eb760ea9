"""Collectives on bytes, for the collectives of users' programs: over MPI, or on one rank."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol

import numpy as np

from hpcnn.comm.exchange.mpi_transport import MOST_BYTES, byte_message
from hpcnn.comm.shared_memory import Bytes
from hpcnn.errors import CommunicatorError
from hpcnn.system.memory import aligned_empty

if TYPE_CHECKING:
    from mpi4py import MPI


class ByteCollectives(Protocol):
    """Collectives on bytes over a group of ranks. Every method is collective."""

    def broadcast(self, data: Bytes, root: int) -> None:
        """Overwrite `data` with that of `root`."""
        ...

    def allgather(self, data: Bytes, counts: Sequence[int]) -> Bytes:
        """Return the concatenated bytes of all ranks; `counts` are their numbers of bytes."""
        ...

    def alltoall(self, data: Bytes, sent: Sequence[int], received: Sequence[int]) -> Bytes:
        """Send the next `sent[r]` bytes to each rank r, and return the concatenated bytes received."""
        ...


class SerialByteCollectives:
    """A single rank."""

    def broadcast(self, data: Bytes, root: int) -> None:
        """Do nothing."""

    def allgather(self, data: Bytes, counts: Sequence[int]) -> Bytes:
        """Return a copy."""
        return data.copy()

    def alltoall(self, data: Bytes, sent: Sequence[int], received: Sequence[int]) -> Bytes:
        """Return a copy."""
        return data.copy()


class MpiByteCollectives:
    """The ranks of an MPI communicator that is used for nothing else."""

    def __init__(self, world: MPI.Intracomm) -> None:
        self._world = world

    def broadcast(self, data: Bytes, root: int) -> None:
        """Overwrite `data` with that of `root`."""
        if data.size:
            self._world.Bcast(byte_message(data), root=root)

    def allgather(self, data: Bytes, counts: Sequence[int]) -> Bytes:
        """Return the bytes of all ranks; if they exceed one message of MPI 3, by one broadcast per rank."""
        from mpi4py import MPI

        everyone = aligned_empty(sum(counts), np.uint8)
        starts = _starts(counts)
        if everyone.size <= MOST_BYTES:
            self._world.Allgatherv(data, [everyone, list(counts), starts, MPI.BYTE])
            return everyone
        own = starts[self._world.rank]
        everyone[own : own + data.size] = data
        for root, (start, count) in enumerate(zip(starts, counts, strict=True)):
            self.broadcast(everyone[start : start + count], root)
        return everyone

    def alltoall(self, data: Bytes, sent: Sequence[int], received: Sequence[int]) -> Bytes:
        """Send and receive.

        Raises:
            CommunicatorError: some rank sends or receives more bytes than one call of MPI 3 can; on all ranks.
        """
        from mpi4py import MPI

        most = max(self._world.allgather(max(data.size, sum(received))))
        if most > MOST_BYTES:
            raise CommunicatorError(
                f"alltoall of {most} bytes in a rank: {MOST_BYTES} is the most. Make several calls."
            )
        arrived = aligned_empty(sum(received), np.uint8)
        self._world.Alltoallv(
            [data, list(sent), _starts(sent), MPI.BYTE], [arrived, list(received), _starts(received), MPI.BYTE]
        )
        return arrived


def _starts(counts: Sequence[int]) -> list[int]:
    return [0, *accumulate(counts)][:-1]

"""MPI through mpi4py: the communicator, and the bandwidth-optimal exact exchange of gradients.

mpi4py is imported inside functions alone: importing `mpi4py.MPI` calls MPI_Init.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.comm.contributions import allocate, fold, nodes_by_rank
from hpcnn.comm.protocol import Array, Contribution, Exchange
from hpcnn.memory import ALIGNMENT, aligned_empty
from hpcnn.tree import additions

if TYPE_CHECKING:
    from mpi4py import MPI

GATHER_ALL_BYTES = 32 * 1024
"""Up to this much per rank in all, one Allgather of everything is faster than two passes over slices."""


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


class _Packed:
    """A byte buffer of segments, one a peer: the tails of some tree nodes, then as many parts of their vectors."""

    def __init__(self, segments: Sequence[tuple[int, int]], dtype: np.dtype[Any], tail_length: int) -> None:
        """Lay out segments of (number of nodes, length of a part)."""
        tail_size = tail_length * 8
        sizes = [length * dtype.itemsize for _, length in segments]
        self.counts = [
            nodes * (_padded(tail_size) + _padded(size)) for (nodes, _), size in zip(segments, sizes, strict=True)
        ]
        self.starts = [sum(self.counts[:peer]) for peer in range(len(segments))]
        self.bytes = aligned_empty(sum(self.counts), np.uint8)
        self.tails: list[Array] = []
        self.parts: list[Array] = []
        for position, (nodes, _), size in zip(self.starts, segments, sizes, strict=True):
            for _ in range(nodes):
                self.tails.append(self.bytes[position : position + tail_size].view(np.float64))
                position += _padded(tail_size)
            for _ in range(nodes):
                self.parts.append(self.bytes[position : position + size].view(dtype))
                position += _padded(size)
        self.message = [self.bytes, self.counts, self.starts, _byte()]
        """The buffer as mpi4py's v-collectives take it."""


class GatherExchange:
    """Every rank gets every contribution and adds them all: least latency, for short vectors."""

    def __init__(self, world: MPI.Intracomm, shards: int, length: int, dtype: DTypeLike, tail_length: int) -> None:
        by_rank = nodes_by_rank(shards, world.size)
        self._world = world
        self._order = additions(shards, [node for nodes in by_rank for node in nodes])
        own = by_rank[world.rank]
        self._sent = _Packed([(len(own), length)], np.dtype(dtype), tail_length)
        self._received = _Packed([(len(nodes), length) for nodes in by_rank], np.dtype(dtype), tail_length)
        self.contributions: Sequence[Contribution] = allocate(own, length, dtype, tail_length)
        result = allocate([(0, shards)], length, dtype, tail_length)[0]
        self.vector, self.tail = result.vector, result.tail

    def allreduce(self) -> None:
        """Allgather, then add along the tree."""
        sent, received = self._sent, self._received
        for place, contribution in enumerate(self.contributions):
            sent.parts[place][...] = contribution.vector
            sent.tails[place][...] = contribution.tail
        self._world.Allgatherv(sent.bytes, received.message)
        fold(received.parts, self._order, self.vector)
        fold(received.tails, self._order, self.tail)


class SliceExchange:
    """Each rank adds one slice of the vector: every byte crosses the network twice at most, for long vectors.

    The tails travel with every slice, so that each rank adds them for itself and the whole exchange is one Alltoallv
    and one Allgatherv.
    """

    def __init__(self, world: MPI.Intracomm, shards: int, length: int, dtype: DTypeLike, tail_length: int) -> None:
        kind = np.dtype(dtype)
        by_rank = nodes_by_rank(shards, world.size)
        own = by_rank[world.rank]
        self._world = world
        self._order = additions(shards, [node for nodes in by_rank for node in nodes])
        line = ALIGNMENT // kind.itemsize
        lines = -(-length // line)
        bounds = [min(length, lines * rank // world.size * line) for rank in range(world.size + 1)]
        self._slices = [slice(bounds[rank], bounds[rank + 1]) for rank in range(world.size)]
        widths = [part.stop - part.start for part in self._slices]

        self._sent = _Packed([(len(own), width) for width in widths], kind, tail_length)
        self._received = _Packed([(len(nodes), widths[world.rank]) for nodes in by_rank], kind, tail_length)
        self.contributions: Sequence[Contribution] = allocate(own, length, dtype, tail_length)
        result = allocate([(0, shards)], length, dtype, tail_length)[0]
        self.vector, self.tail = result.vector, result.tail
        scale = kind.itemsize
        self._result = [
            self.vector.view(np.uint8),
            [width * scale for width in widths],
            [start * scale for start in bounds[:-1]],
            _byte(),
        ]

    def allreduce(self) -> None:
        """Alltoallv of slices, add the own slice along the tree, Allgatherv of the sums."""
        from mpi4py import MPI

        places = ((part, contribution) for part in self._slices for contribution in self.contributions)
        for (part, contribution), vector, tail in zip(places, self._sent.parts, self._sent.tails, strict=True):
            vector[...] = contribution.vector[part]
            tail[...] = contribution.tail
        self._world.Alltoallv(self._sent.message, self._received.message)
        fold(self._received.parts, self._order, self.vector[self._slices[self._world.rank]])
        fold(self._received.tails, self._order, self.tail)
        self._world.Allgatherv(MPI.IN_PLACE, self._result)


def _byte() -> Any:
    from mpi4py import MPI

    return MPI.BYTE


class MpiCommunicator:
    """All ranks of MPI_COMM_WORLD."""

    def __init__(self) -> None:
        from mpi4py import MPI

        self._world = MPI.COMM_WORLD.Dup()
        self._failures = MPI.COMM_WORLD.Dup()  # apart, so that a failing rank disturbs no collective of the others
        node = self._world.Split_type(MPI.COMM_TYPE_SHARED)
        self.rank, self.size = self._world.rank, self._world.size
        self.local_rank, self.local_size = node.rank, node.size
        node.Free()
        self.host = MPI.Get_processor_name()

    def exchange(self, shards: int, length: int, dtype: DTypeLike, tail_length: int) -> Exchange:
        """Return the exchange that suits the length. The bits of the sums are the same in either."""
        nodes = max(len(own) for own in nodes_by_rank(shards, self.size))
        gathered = self.size * nodes * (length * np.dtype(dtype).itemsize + tail_length * 8)
        kind = GatherExchange if gathered <= GATHER_ALL_BYTES else SliceExchange
        return kind(self._world, shards, length, dtype, tail_length)

    def allgather(self, value: Any) -> list[Any]:
        """Return the small object `value` of every rank, by rank."""
        return self._world.allgather(value)

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's small object `value`."""
        return self._world.bcast(value, root=0)

    def broadcast_array(self, array: Array) -> None:
        """Overwrite the contiguous `array` with rank 0's."""
        self._world.Bcast([array.reshape(-1).view(np.uint8), _byte()], root=0)

    def gather_arrays(self, array: Array) -> list[Array] | None:
        """Return every rank's contiguous `array` by rank, on rank 0; None elsewhere."""
        rows = self._world.gather(array.shape[0], root=0)
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        if rows is None:
            self._world.Gatherv(data, None, root=0)
            return None
        row_bytes = array.dtype.itemsize * math.prod(array.shape[1:])
        counts = [count * row_bytes for count in rows]
        starts = [sum(counts[:rank]) for rank in range(self.size)]
        received = aligned_empty(sum(counts), np.uint8)
        self._world.Gatherv(data, [received, counts, starts, _byte()], root=0)
        return [
            received[start : start + size].view(array.dtype).reshape(count, *array.shape[1:])
            for count, start, size in zip(rows, starts, counts, strict=True)
        ]

    def barrier(self) -> None:
        """Return once every rank has come here."""
        self._world.Barrier()

    def all_failing(self, timeout_s: float) -> bool:
        """Return whether every rank comes here within `timeout_s` seconds."""
        request = self._failures.Ibarrier()
        deadline = time.monotonic() + timeout_s
        while not request.Test():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    def abort(self, exit_code: int) -> NoReturn:
        """End the whole job at once with `exit_code`."""
        sys.stdout.flush()
        sys.stderr.flush()
        self._world.Abort(exit_code)
        sys.exit(exit_code)

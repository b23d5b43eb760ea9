"""MPI through mpi4py: the communicator, and the bandwidth-optimal exact exchange of gradients.

mpi4py is imported inside functions alone: importing `mpi4py.MPI` calls MPI_Init.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.comm.contributions import allocate, fold, nodes_by_rank
from hpcnn.comm.protocol import Array, Contribution, Exchange
from hpcnn.memory import ALIGNMENT, aligned_empty
from hpcnn.tree import Node, additions

if TYPE_CHECKING:
    from mpi4py import MPI

GATHER_ALL_BYTES = 32 * 1024
"""Up to this much per rank in all, one Allgather of everything is faster than two passes over slices."""


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


class _PackedNodes:
    """A byte buffer with, per rank, the tails and then the vector parts of that rank's tree nodes."""

    def __init__(self, nodes: list[list[Node]], length: int, dtype: np.dtype[Any], tail_length: int) -> None:
        tail_bytes = _padded(tail_length * 8)
        part_bytes = _padded(length * dtype.itemsize)
        self.counts = [len(own) * (tail_bytes + part_bytes) for own in nodes]
        self.starts = [sum(self.counts[:rank]) for rank in range(len(nodes))]
        self.bytes = aligned_empty(sum(self.counts), np.uint8)
        self.tails: list[Array] = []
        self.parts: list[Array] = []
        for start, own in zip(self.starts, nodes, strict=True):
            position = start
            for views, size, step, kind in (
                (self.tails, tail_length * 8, tail_bytes, np.dtype(np.float64)),
                (self.parts, length * dtype.itemsize, part_bytes, dtype),
            ):
                for _ in own:
                    views.append(self.bytes[position : position + size].view(kind))
                    position += step


class GatherExchange:
    """Every rank gets every contribution and adds them all: least latency, for short vectors."""

    def __init__(self, world: MPI.Intracomm, shards: int, length: int, dtype: DTypeLike, tail_length: int) -> None:
        by_rank = nodes_by_rank(shards, world.size)
        self._world = world
        self._order = additions(shards, [node for nodes in by_rank for node in nodes])
        self._received = _PackedNodes(by_rank, length, np.dtype(dtype), tail_length)
        own = by_rank[world.rank]
        self._sent = _PackedNodes([own], length, np.dtype(dtype), tail_length)
        self.contributions: Sequence[Contribution] = allocate(own, length, dtype, tail_length)
        result = allocate([(0, shards)], length, dtype, tail_length)[0]
        self.vector, self.tail = result.vector, result.tail

    def allreduce(self) -> None:
        """Allgather, then add along the tree."""
        sent, received = self._sent, self._received
        for place, contribution in enumerate(self.contributions):
            sent.parts[place][...] = contribution.vector
            sent.tails[place][...] = contribution.tail
        self._world.Allgatherv(sent.bytes, [received.bytes, received.counts, received.starts, _byte()])
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

        self._sent = [_PackedNodes([own], width, kind, tail_length) for width in widths]
        send_counts = [packed.bytes.size for packed in self._sent]
        send_starts = [sum(send_counts[:rank]) for rank in range(world.size)]
        send_bytes = aligned_empty(sum(send_counts), np.uint8)
        for packed, start in zip(self._sent, send_starts, strict=True):
            _move(packed, send_bytes[start : start + packed.bytes.size])
        self._send = [send_bytes, send_counts, send_starts, _byte()]

        self._received = _PackedNodes(by_rank, widths[world.rank], kind, tail_length)
        self._receive = [self._received.bytes, self._received.counts, self._received.starts, _byte()]

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

        for place, contribution in enumerate(self.contributions):
            for packed, part in zip(self._sent, self._slices, strict=True):
                packed.parts[place][...] = contribution.vector[part]
                packed.tails[place][...] = contribution.tail
        self._world.Alltoallv(self._send, self._receive)
        fold(self._received.parts, self._order, self.vector[self._slices[self._world.rank]])
        fold(self._received.tails, self._order, self.tail)
        self._world.Allgatherv(MPI.IN_PLACE, self._result)


def _move(packed: _PackedNodes, target: Array) -> None:
    """Let the views of `packed` lie in `target`, which is as long as its own buffer."""
    origin = packed.bytes.ctypes.data

    def moved(view: Array) -> Array:
        start = view.ctypes.data - origin
        return target[start : start + view.nbytes].view(view.dtype)

    packed.parts = [moved(view) for view in packed.parts]
    packed.tails = [moved(view) for view in packed.tails]
    packed.bytes = target


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
        parts = [aligned_empty((count, *array.shape[1:]), array.dtype) for count in rows]
        counts = [part.nbytes for part in parts]
        received = aligned_empty(sum(counts), np.uint8)
        starts = [sum(counts[:rank]) for rank in range(self.size)]
        self._world.Gatherv(data, [received, counts, starts, _byte()], root=0)
        for part, start, count in zip(parts, starts, counts, strict=True):
            part.reshape(-1).view(np.uint8)[...] = received[start : start + count]
        return parts

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

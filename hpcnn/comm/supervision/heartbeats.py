"""Heartbeats: each rank periodically sends its status to some others, beside all other messages.

Rank r sends to ranks r + 1, r + 2, r + 4 and so on, modulo the number of ranks. So its right neighbour hears it
directly, and news reach all ranks after about log2(ranks) rounds, whichever rank falls silent.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from hpcnn.errors import CommunicatorError
from hpcnn.system.processes import Process

if TYPE_CHECKING:
    from mpi4py import MPI

    from hpcnn.comm.shared_memory import Bytes

_LAYOUT = struct.Struct("qq64s32s")
_STATUS, _LEAVE = 1, 2


@dataclass(frozen=True)
class Status:
    """The content of a heartbeat.

    A rank with news increments the greatest number that it knows, and the others forward it. This needs no common
    clock: as long as the number grows, some rank has news.
    """

    progress: int
    """Grows as long as any rank makes progress."""
    stuck: int
    """Grows as long as any rank is stuck and has been reported."""
    activity: str
    """What the rank is doing."""
    stop_reason: str
    """Why the run is to stop; empty if it is not."""

    def pack(self) -> bytes:
        """Return the status in a fixed number of bytes.

        >>> Status.unpack(Status(7, 0, "phase data", "").pack()).activity
        'phase data'
        """
        return _LAYOUT.pack(self.progress, self.stuck, self.activity.encode(), self.stop_reason.encode())

    @classmethod
    def unpack(cls, data: bytes) -> Status:
        """Return the status that `pack` packed."""
        progress, stuck, *texts = _LAYOUT.unpack(data)
        return cls(progress, stuck, *(text.rstrip(b"\0").decode(errors="replace") for text in texts))


def distances_of(size: int) -> list[int]:
    """Return how far to the right the ranks are that each of `size` sends to.

    >>> distances_of(1000)
    [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    """
    return [1 << i for i in range((size - 1).bit_length())]


class Heartbeats(Protocol):
    """One rank's side channel, for one thread."""

    processes: Sequence[Process]
    """Those of all ranks."""
    sources: Sequence[int]
    """The ranks that send to this one, its left neighbour first."""
    left: set[int]
    """Those of them that have left."""

    def beat(self, status: Status | None) -> dict[int, Status]:
        """Send a status to those that have received the last one, and return what arrived, by rank. Never waits.

        Raises:
            CommunicatorError: the channel is broken.
        """
        ...

    def leave(self) -> None:
        """Tell the others that no more heartbeats will follow.

        Raises:
            CommunicatorError: the channel is broken.
        """
        ...

    def close(self) -> None:
        """Receive no more. Call it when all sources have left, or when their status no longer matters."""
        ...


class MpiHeartbeats:
    """Heartbeats through MPI, which must allow several threads at once.

    Args:
        world: a communicator used for nothing else.
        processes: those of all ranks.
    """

    def __init__(self, world: MPI.Intracomm, processes: Sequence[Process]) -> None:
        rank, size = world.rank, world.size
        self.processes: Sequence[Process] = processes
        distances = distances_of(size)
        self.sources: Sequence[int] = [(rank - distance) % size for distance in distances]
        self.left: set[int] = set()
        self._world = world
        self._targets = [(rank + distance) % size for distance in distances]
        self._inboxes = [np.zeros(_LAYOUT.size, np.uint8) for _ in distances]
        self._outboxes = [np.zeros(_LAYOUT.size, np.uint8) for _ in distances]
        # Synchronous, so that a neighbour that is stuck gets one message and not thousands.
        self._sending: list[Any] = [  # mpi4py's stub does not know that they are persistent
            world.Ssend_init(box, dest=target, tag=_STATUS)
            for box, target in zip(self._outboxes, self._targets, strict=True)
        ]
        self._arriving = [
            world.Recv_init(box, source=source, tag=_STATUS)
            for box, source in zip(self._inboxes, self.sources, strict=True)
        ]
        self._leaving = [world.Irecv(np.zeros(0, np.uint8), source=source, tag=_LEAVE) for source in self.sources]
        self._farewells: list[MPI.Request] = []
        for request in self._arriving:
            request.Start()

    def beat(self, status: Status | None) -> dict[int, Status]:
        """Send to the neighbours on the right, and return what those on the left have sent."""
        came = {}
        with _broken():
            for source, arriving, inbox in zip(self.sources, self._arriving, self._inboxes, strict=True):
                while arriving.Test():
                    came[source] = Status.unpack(inbox.tobytes())
                    arriving.Start()
            for source, leaving in zip(self.sources, self._leaving, strict=True):
                if source not in self.left and leaving.Test():
                    self.left.add(source)
            if status is not None:
                self._send(np.frombuffer(status.pack(), np.uint8))
        return came

    def _send(self, data: Bytes) -> None:
        for sending, outbox in zip(self._sending, self._outboxes, strict=True):
            if sending.Test():
                outbox[...] = data
                sending.Start()

    def leave(self) -> None:
        """Tell the neighbours on the right."""
        with _broken():
            self._farewells = [
                self._world.Isend(np.zeros(0, np.uint8), dest=target, tag=_LEAVE) for target in self._targets
            ]

    def close(self) -> None:
        """Cancel the receives."""
        _pending.append(self)
        with suppress(CommunicatorError), _broken():
            for request in (*self._arriving, *self._leaving):
                request.Cancel()
                request.Wait()


_pending: list[MpiHeartbeats] = []
"""Kept to the end: MPI may read messages that neighbours never received until then."""


@contextmanager
def _broken() -> Iterator[None]:
    """Convert errors of MPI."""
    from mpi4py import MPI

    try:
        yield
    except MPI.Exception as error:
        raise CommunicatorError(f"a message of the heartbeats failed: {error}") from None

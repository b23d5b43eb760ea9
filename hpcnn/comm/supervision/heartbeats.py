"""Signs of life: now and then, beside all else, each rank tells some others how far it is.

Rank r tells ranks r + 1, r + 2, r + 4 and so on, around. So each is heard by its right neighbour directly, and news are
everywhere after as many rounds as there are such distances, whichever rank falls silent.
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
    """What a rank tells others.

    A rank that has news adds one to the greatest number that it knows, and others pass it on. So nobody needs a common
    clock: as long as the number grows, there is news somewhere.
    """

    progress: int
    """Grows as long as any rank gets on."""
    stuck: int
    """Grows as long as any rank is stuck and has been named."""
    place: str
    """What it is doing."""
    wish: str
    """Why the run was asked to stop; empty if it was not."""

    def pack(self) -> bytes:
        """Return it in a fixed number of bytes.

        >>> Status.unpack(Status(7, 0, "phase data", "").pack()).place
        'phase data'
        """
        return _LAYOUT.pack(self.progress, self.stuck, self.place.encode(), self.wish.encode())

    @classmethod
    def unpack(cls, data: bytes) -> Status:
        """Return what `pack` has packed."""
        progress, stuck, *texts = _LAYOUT.unpack(data)
        return cls(progress, stuck, *(text.rstrip(b"\0").decode(errors="replace") for text in texts))


class Heartbeats(Protocol):
    """One rank's side channel, for one thread."""

    processes: Sequence[Process]
    """Those of all ranks."""
    sources: Sequence[int]
    """The ranks that this one hears, its left neighbour first."""
    left: set[int]
    """Those of them that have said good-bye."""

    def beat(self, status: Status | None) -> dict[int, Status]:
        """Tell others one's status, if they have taken the last one, and return what came from whom. Never waits.

        Raises:
            CommunicatorError: the channel is broken.
        """
        ...

    def leave(self) -> None:
        """Say good-bye: from now on there is no status to tell.

        Raises:
            CommunicatorError: the channel is broken.
        """
        ...

    def close(self) -> None:
        """Hear no more. To be called when all sources have left, or what they say does not matter any more."""
        ...


class MpiHeartbeats:
    """Heartbeats through MPI, which must allow several threads at once.

    Args:
        world: a communicator for nothing else.
        processes: those of all ranks.
    """

    def __init__(self, world: MPI.Intracomm, processes: Sequence[Process]) -> None:
        rank, size = world.rank, world.size
        self.processes: Sequence[Process] = processes
        distances = [1 << i for i in range((size - 1).bit_length())]
        self.sources: Sequence[int] = [(rank - distance) % size for distance in distances]
        self.left: set[int] = set()
        self._world = world
        self._targets = [(rank + distance) % size for distance in distances]
        self._inboxes = [np.zeros(_LAYOUT.size, np.uint8) for _ in distances]
        self._outboxes = [np.zeros(_LAYOUT.size, np.uint8) for _ in distances]
        # Synchronous: a neighbour that is stuck gets one message and not thousands.
        self._sending: list[Any] = [  # mpi4py's stub does not know that they are persistent
            world.Ssend_init(box, dest=target, tag=_STATUS)
            for box, target in zip(self._outboxes, self._targets, strict=True)
        ]
        self._arriving = [
            world.Recv_init(box, source=source, tag=_STATUS)
            for box, source in zip(self._inboxes, self.sources, strict=True)
        ]
        self._leaving = [world.Irecv(np.zeros(0, np.uint8), source=source, tag=_LEAVE) for source in self.sources]
        self._good_byes: list[MPI.Request] = []
        for request in self._arriving:
            request.Start()

    def beat(self, status: Status | None) -> dict[int, Status]:
        """Tell the neighbours on the right, and return what those on the left have told."""
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
                self._tell(np.frombuffer(status.pack(), np.uint8))
        return came

    def _tell(self, data: Bytes) -> None:
        for sending, outbox in zip(self._sending, self._outboxes, strict=True):
            if sending.Test():
                outbox[...] = data
                sending.Start()

    def leave(self) -> None:
        """Say good-bye to the neighbours on the right."""
        with _broken():
            self._good_byes = [
                self._world.Isend(np.zeros(0, np.uint8), dest=target, tag=_LEAVE) for target in self._targets
            ]

    def close(self) -> None:
        """Take the receives back."""
        _under_way.append(self)
        with suppress(CommunicatorError), _broken():
            for request in (*self._arriving, *self._leaving):
                request.Cancel()
                request.Wait()


_under_way: list[MpiHeartbeats] = []
"""Kept to the end: of what neighbours never took, MPI may read the memory until then."""


@contextmanager
def _broken() -> Iterator[None]:
    """Report what MPI raises as a broken channel."""
    from mpi4py import MPI

    try:
        yield
    except MPI.Exception as error:
        raise CommunicatorError(f"a message of the heartbeats failed: {error}") from None

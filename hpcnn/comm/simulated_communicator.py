"""The communicator of a simulated rank: collectives of small objects in as many messages as MPI needs."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from hpcnn.comm.merging_tree import merge_along_tree
from hpcnn.comm.protocol import Array
from hpcnn.comm.threads import ThreadCommunicator, World

T = TypeVar("T")


class ObjectLinks(Protocol):
    """Messages of any length between simulated ranks."""

    def send(self, target: int, data: bytes) -> None:
        """Send bytes to a rank."""
        ...

    def receive(self, source: int) -> bytes:
        """Return the bytes that a rank sends next."""
        ...

    def count(self, messages: int, sent_bytes: int) -> None:
        """Count messages, and let the time pass that their bytes take."""
        ...


class SimulatedCommunicator(ThreadCommunicator):
    """A rank whose objects travel pickled, by binomial trees; an allgather counts as one of recursive doubling."""

    def __init__(self, world: World, rank: int, links: ObjectLinks) -> None:
        super().__init__(world, rank)
        self._links = links
        self._rounds = (self.size - 1).bit_length()

    def allgather(self, value: Any) -> list[Any]:
        """Return a copy of every rank's `value`, by rank."""
        own = pickle.dumps(value)
        everyone = self.share(own)
        self._links.count(self._rounds, sum(map(len, everyone)) - len(own))
        return [pickle.loads(each) for each in everyone]

    def allreduce(self, value: T, merge: Callable[[T, T], T]) -> T:
        """Return copies of the values of all ranks, merged along a tree."""
        merged: T = self.broadcast(merge_along_tree(self.rank, self.size, value, merge, self._send, self._receive))
        return merged

    def broadcast(self, value: Any) -> Any:
        """Return a copy of rank 0's `value`."""
        parent = self.rank & -self.rank if self.rank else 1 << self._rounds
        data = self._links.receive(self.rank - parent) if self.rank else pickle.dumps(value)
        distance = parent // 2
        while distance:
            if self.rank + distance < self.size:
                self._links.send(self.rank + distance, data)
            distance //= 2
        return pickle.loads(data)

    def broadcast_array(self, array: Array) -> None:
        """Overwrite `array` with rank 0's."""
        array[...] = self.broadcast(array)

    def barrier(self, *, spin: bool = True) -> None:
        """Wait for all ranks."""
        super().barrier(spin=spin)
        self._links.count(self._rounds, 0)

    def _send(self, target: int, value: Any) -> None:
        self._links.send(target, pickle.dumps(value))

    def _receive(self, source: int) -> Any:
        return pickle.loads(self._links.receive(source))

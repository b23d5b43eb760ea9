"""What ranks do about each other's failures: send heartbeats, fail together, and continue without the dead."""

from __future__ import annotations

from typing import Any, Protocol

from hpcnn.comm.supervision.heartbeats import Heartbeats


class FaultTolerance(Protocol):
    """One rank's side of it. Every method but `all_failing` is collective."""

    def heartbeats(self) -> Heartbeats | None:
        """Return a new side channel for a thread of this rank; None if there is nobody else, or none can be."""
        ...

    def all_failing(self, timeout_s: float) -> bool:
        """Return whether every rank comes here within `timeout_s` seconds; for a rank that is about to fail."""
        ...

    @property
    def recovery_obstacle(self) -> str:
        """Why the ranks could not continue without one that died; empty if they could, or if there is but one."""
        ...

    def recover(self, error: BaseException, progress: Any) -> list[str]:
        """Continue without the ranks that died, if that is what caused `error`; return their names.

        The communicator then consists of the ranks that are left, with new numbers: one with the greatest `progress`
        becomes rank 0. Exchanges and arrays that were made on it before can't be used any more. Collective among the
        ranks that are left, each of which gets an error as long as it waits for the others. An empty list: `error` has
        another cause.
        """
        ...


class OneProcess:
    """The fault tolerance of ranks that are one process, which live and die together.

    Args:
        size: how many ranks there are. Of several threads, one that fails releases the others.
    """

    recovery_obstacle = ""

    def __init__(self, size: int) -> None:
        self._size = size

    def heartbeats(self) -> None:
        """Return None: the ranks hang together."""

    def all_failing(self, timeout_s: float) -> bool:
        """Return whether there is only one rank."""
        return self._size == 1

    def recover(self, error: BaseException, progress: Any) -> list[str]:
        """Return an empty list: nobody else can die."""
        return []

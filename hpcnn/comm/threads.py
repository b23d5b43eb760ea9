"""Ranks as threads of one process: every collective for real, in plain pytest, with a time limit on each wait."""

from __future__ import annotations

import copy
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

from numpy.typing import DTypeLike

from hpcnn.comm.contributions import allocate, fold, nodes_by_rank
from hpcnn.comm.protocol import Array, Contribution
from hpcnn.errors import CommunicatorError
from hpcnn.tree import additions

T = TypeVar("T")
_GRACE_S = 5.0
"""A rank that waits gives up first, and says why."""


class ThreadWorld:
    """What the ranks share: a barrier and one slot each."""

    def __init__(self, size: int, timeout_s: float) -> None:
        self.size = size
        self.slots: list[Any] = [None] * size
        self._barrier = threading.Barrier(size, timeout=timeout_s)

    def wait(self) -> None:
        """Wait for all ranks.

        Raises:
            CommunicatorError: some rank did not come in time, or has failed.
        """
        try:
            self._barrier.wait()
        except threading.BrokenBarrierError:
            raise CommunicatorError("a rank failed, or did not reach a collective in time") from None

    def abort(self) -> None:
        """Let every waiting rank fail."""
        self._barrier.abort()


class ThreadExchange:
    """The exchange of ranks that see each other's buffers."""

    def __init__(self, comm: ThreadCommunicator, shards: int, length: int, dtype: DTypeLike, tail_length: int) -> None:
        by_rank = nodes_by_rank(shards, comm.size)
        self.contributions: Sequence[Contribution] = allocate(by_rank[comm.rank], length, dtype, tail_length)
        result = allocate([(0, shards)], length, dtype, tail_length)[0]
        self.vector, self.tail = result.vector, result.tail
        self._comm = comm
        self._order = additions(shards, [node for nodes in by_rank for node in nodes])

    def allreduce(self) -> None:
        """Sum copies of all ranks' contributions along the tree."""
        everyone: list[Sequence[Contribution]] = self._comm.share(self.contributions)
        parts = [part for contributions in everyone for part in contributions]
        vectors, tails = [part.vector.copy() for part in parts], [part.tail.copy() for part in parts]
        self._comm.barrier()  # no rank may write its contribution again before all have copied it
        fold(vectors, self._order, self.vector)
        fold(tails, self._order, self.tail)


class ThreadCommunicator:
    """One rank of a `ThreadWorld`."""

    def __init__(self, world: ThreadWorld, rank: int) -> None:
        self._world = world
        self.rank = self.local_rank = rank
        self.size = self.local_size = world.size
        self.host = socket.gethostname()

    def share(self, value: T) -> list[T]:
        """Return every rank's `value` itself, not a copy, by rank."""
        self._world.slots[self.rank] = value
        self._world.wait()
        everyone = list(self._world.slots)
        self._world.wait()
        return everyone

    def exchange(self, shards: int, length: int, dtype: DTypeLike, tail_length: int) -> ThreadExchange:
        """Return an exchange over the ranks of this world."""
        return ThreadExchange(self, shards, length, dtype, tail_length)

    def allgather(self, value: Any) -> list[Any]:
        """Return a copy of every rank's `value`, by rank."""
        # copied on both sides: the sender may change its value, and each receiver what it got
        return copy.deepcopy(self.share(copy.deepcopy(value)))

    def broadcast(self, value: Any) -> Any:
        """Return a copy of rank 0's `value`."""
        return copy.deepcopy(self.share(copy.deepcopy(value))[0])

    def broadcast_array(self, array: Array) -> None:
        """Overwrite `array` with rank 0's."""
        source = self.share(array)[0]
        if source is not array:
            array[...] = source
        self.barrier()

    def gather_arrays(self, array: Array) -> list[Array] | None:
        """Return a copy of every rank's `array`, on rank 0."""
        everyone = self.share(array.copy())
        return everyone if self.rank == 0 else None

    def barrier(self) -> None:
        """Wait for all ranks."""
        self._world.wait()

    def all_failing(self, timeout_s: float) -> bool:
        """Return false: a failing thread always releases the others by `abort`."""
        return False

    def abort(self, exit_code: int) -> NoReturn:
        """Fail all ranks."""
        self._world.abort()
        raise CommunicatorError(f"rank {self.rank} ended the job with exit code {exit_code}")


def run_threads(size: int, body: Callable[[ThreadCommunicator], T], *, timeout_s: float = 60.0) -> list[T]:
    """Run ``body(communicator)`` on `size` ranks, each a thread, and return their results by rank.

    Raises:
        Exception: whatever the first failing rank raised; the other ranks are released.

    >>> run_threads(3, lambda comm: sum(comm.allgather(comm.rank)))
    [3, 3, 3]
    """
    world = ThreadWorld(size, timeout_s)
    results: list[Any] = [None] * size
    errors: list[tuple[int, BaseException]] = []

    def run(rank: int) -> None:
        try:
            results[rank] = body(ThreadCommunicator(world, rank))
        except BaseException as error:  # re-raised below, in the caller's thread
            errors.append((rank, error))
            world.abort()

    threads = [threading.Thread(target=run, args=(rank,), name=f"rank {rank}", daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout_s + _GRACE_S)
        if thread.is_alive():
            world.abort()
            raise CommunicatorError(f"{thread.name} did not end within {timeout_s:g} s")
    if errors:
        raise errors[0][1]
    return results

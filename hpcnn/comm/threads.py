"""Ranks as threads of one process, for tests: real collectives, with a time limit on each wait."""

from __future__ import annotations

import copy
import queue
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, Protocol, TypeVar, Unpack

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.comm.exchange.plan import Topology, check_shards
from hpcnn.comm.exchange.transport import Links, Message, Place
from hpcnn.comm.exchange.tree_allreduce import TreeAllreduce
from hpcnn.comm.exchange.tree_exchange import TreeExchange
from hpcnn.comm.fault_tolerance import FaultTolerance, OneProcess
from hpcnn.comm.network import Network
from hpcnn.comm.protocol import Array, ExchangeOptions, HostArray, ShardedOptions
from hpcnn.comm.shared_memory import Bytes, CommonArray, PrivateMemory
from hpcnn.core.activity import Activity
from hpcnn.errors import CommunicatorError

T = TypeVar("T")
_Box = queue.SimpleQueue[Array | None]
_GRACE_S = 5.0
"""Longer than a rank waits, so that it fails first and says why."""


class Group(Protocol):
    """Some ranks that wait for each other."""

    slots: list[Any]

    def wait(self, index: int) -> None:
        """Return once every rank of the group has come here; `index` is this one's place among them."""
        ...

    def share(self, index: int, value: T) -> list[T]:
        """Return every rank's `value` itself, not a copy, by index."""
        self.slots[index] = value
        self.wait(index)
        everyone = list(self.slots)
        self.wait(index)
        return everyone


class World(Protocol):
    """What ranks in one process share."""

    topology: Topology
    size: int
    halving: bool
    """Whether the exchange between hosts halves and doubles."""

    @property
    def everyone(self) -> Group:
        """All ranks."""
        ...

    @property
    def hosts(self) -> Sequence[Group]:
        """Those of each host."""
        ...

    def links(self, rank: int) -> Links:
        """Return the links of a rank."""
        ...


class _Group(Group):
    """A group of threads: a barrier, and one slot per thread."""

    def __init__(self, size: int, timeout_s: float) -> None:
        self.slots: list[Any] = [None] * size
        self.barrier = threading.Barrier(size, timeout=timeout_s)

    def wait(self, index: int) -> None:
        """Wait for all threads of the group.

        Raises:
            CommunicatorError: some rank did not come in time, or has failed.
        """
        try:
            self.barrier.wait()
        except threading.BrokenBarrierError:
            raise CommunicatorError("a rank failed, or did not reach a collective in time") from None


class ThreadWorld:
    """What the ranks share, and which of them count as being on one host."""

    def __init__(self, host_of_rank: Sequence[int], timeout_s: float, *, halving: bool = False) -> None:
        self.halving = halving
        self.topology = Topology.of(host_of_rank)
        self.size = len(host_of_rank)
        self.timeout_s = timeout_s
        self.everyone = _Group(self.size, timeout_s)
        self.hosts = [_Group(len(ranks), timeout_s) for ranks in self.topology.hosts]
        self.mail: defaultdict[tuple[int, int, int], _Box] = defaultdict(queue.SimpleQueue)
        self.lock = threading.Lock()

    def links(self, rank: int) -> ThreadLinks:
        """Return the links of a rank."""
        return ThreadLinks(self, rank)

    def box(self, source: int, target: int, tag: int) -> _Box:
        """Return the queue of messages from one rank to another."""
        with self.lock:
            return self.mail[source, target, tag]

    def abort(self) -> None:
        """Make every waiting rank fail."""
        for group in (self.everyone, *self.hosts):
            group.barrier.abort()
        with self.lock:
            for box in self.mail.values():
                box.put(None)


class ThreadMemory:
    """The memory of the threads that count as one host."""

    def __init__(self, group: Group, rank: int) -> None:
        self._group, self.rank, self.size = group, rank, len(group.slots)

    def allocate(self, size: int) -> list[Bytes]:
        """Return one segment per rank."""
        return self._group.share(self.rank, *PrivateMemory().allocate(size))

    def allocate_common(self, size: int) -> Bytes:
        """Return the segment of the first rank."""
        return self.allocate(size)[0]

    def barrier(self, *, spin: bool = True) -> None:
        """Wait for all ranks of the host."""
        self._group.wait(self.rank)


class _ThreadTransfer:
    """Messages as copies in queues."""

    def __init__(self, sends: list[tuple[_Box, Array]], receives: list[tuple[_Box, Array]], timeout_s: float) -> None:
        self._sends, self._receives, self._timeout_s = sends, receives, timeout_s

    def start(self) -> None:
        """Put copies into the queues."""
        for box, array in self._sends:
            box.put(array.copy())

    def wait(self, *, spin: bool) -> None:
        """Take what has arrived."""
        for box, array in self._receives:
            try:
                arrived = box.get(timeout=self._timeout_s)
            except queue.Empty:
                arrived = None
            if arrived is None:
                raise CommunicatorError("a rank failed, or did not send a message in time")
            array[...] = arrived

    def free(self) -> None:
        """Do nothing."""


class ThreadLinks:
    """Links between threads."""

    def __init__(self, world: ThreadWorld, rank: int) -> None:
        self._world, self._rank = world, rank

    def transfer(self, sends: Sequence[Message], receives: Sequence[Message], tag: int) -> _ThreadTransfer:
        """Return a transfer."""
        world, own = self._world, self._rank
        return _ThreadTransfer(
            [(world.box(own, rank, tag), array) for rank, array in sends],
            [(world.box(rank, own, tag), array) for rank, array in receives],
            world.timeout_s,
        )

    def allgather(self, own: Array, counts: Sequence[int]) -> Array:
        """Return the vectors of all ranks, one after the other."""
        everyone = self._world.everyone.share(self._rank, own.copy())
        assert [len(each) for each in everyone] == list(counts)
        return np.concatenate(everyone)


class ThreadCommunicator:
    """One rank of a `World`."""

    def __init__(self, world: World, rank: int) -> None:
        host = world.topology.host_of(rank)
        ranks = world.topology.hosts[host]
        self._world = world
        self.rank, self.size = rank, world.size
        self.local_rank, self.local_size = ranks.index(rank), len(ranks)
        self.hosts = len(world.topology.hosts)
        self.network: Network | None = None
        self.host = f"{socket.gethostname()}-{host}"
        self.notes: list[str] = []
        self.activity = Activity()
        self.fault_tolerance: FaultTolerance = OneProcess(self.size)
        memory = ThreadMemory(world.hosts[host], self.local_rank)
        self._place = Place(rank, world.topology, memory, world.links(rank))

    def share(self, value: T) -> list[T]:
        """Return every rank's `value` itself, not a copy, by rank."""
        return self._world.everyone.share(self.rank, value)

    def exchange(
        self, shards: int, length: int, dtype: DTypeLike, stats_length: int, **options: Unpack[ExchangeOptions]
    ) -> TreeAllreduce:
        """Return an exchange over the ranks of this world."""
        check_shards(shards, self.size)
        halving = self._world.halving
        return TreeAllreduce(self._place, shards, length, dtype, stats_length, halving=halving, **options)

    def sharded_exchange(
        self, shards: int, target: HostArray, length: int, stats_length: int, **options: Unpack[ShardedOptions]
    ) -> TreeExchange:
        """Return a sharded exchange for `target`."""
        check_shards(shards, self.size)
        return TreeExchange(
            self._place,
            shards,
            length,
            target.array.dtype,
            stats_length,
            target=target.array,
            halving=self._world.halving,
            **options,
        )

    def host_array(self, length: int, dtype: DTypeLike, *, shared: bool) -> CommonArray:
        """Return an array of zeros."""
        memory = self._place.memory if shared else PrivateMemory()
        size = length * np.dtype(dtype).itemsize
        return CommonArray(memory, memory.allocate_common(size)[:size].view(dtype), self.broadcast_array)

    def allgather(self, value: Any) -> list[Any]:
        """Return a copy of every rank's `value`, by rank."""
        # copied on both sides: the sender may change its value, and each receiver what it got
        return copy.deepcopy(self.share(copy.deepcopy(value)))

    def allreduce(self, value: T, merge: Callable[[T, T], T]) -> T:
        """Return copies of the values of all ranks, merged."""
        everyone: list[T] = self.allgather(value)
        return reduce(merge, everyone)

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

    def barrier(self, *, spin: bool = True) -> None:
        """Wait for all ranks."""
        self._world.everyone.wait(self.rank)


def run_threads(
    size: int,
    body: Callable[[ThreadCommunicator], T],
    *,
    host_of_rank: Sequence[int] | None = None,
    timeout_s: float = 60.0,
    halving: bool = False,
) -> list[T]:
    """Run ``body(communicator)`` on `size` ranks, each a thread, and return their results by rank.

    `host_of_rank` assigns ranks to hosts, which share no memory; by default there is one host. With `halving` the
    exchange between hosts halves and doubles.

    Raises:
        Exception: what the first failing rank raised; the other ranks are released.

    >>> run_threads(3, lambda comm: sum(comm.allgather(comm.rank)))
    [3, 3, 3]
    """
    world = ThreadWorld(host_of_rank or [0] * size, timeout_s, halving=halving)
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

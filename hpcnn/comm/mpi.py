"""MPI through mpi4py: the communicator of all ranks.

mpi4py is imported inside functions alone: importing `mpi4py.MPI` calls MPI_Init.
"""

from __future__ import annotations

import atexit
import math
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.comm import ulfm
from hpcnn.comm.exchange.allgather_exchange import AllgatherExchange, Gather, HostGather
from hpcnn.comm.exchange.choice import GATHER, HALVING, Workload
from hpcnn.comm.exchange.mpi_transport import POLL_S, MpiLinks, WorldGather, byte_message
from hpcnn.comm.exchange.plan import Topology, check_shards
from hpcnn.comm.exchange.probe import Chooser
from hpcnn.comm.exchange.transport import Place
from hpcnn.comm.exchange.tree_allreduce import TreeAllreduce
from hpcnn.comm.exchange.tree_exchange import TreeExchange
from hpcnn.comm.fault_tolerance import FaultTolerance
from hpcnn.comm.members import Members
from hpcnn.comm.merging_tree import merge_along_tree
from hpcnn.comm.network import Network
from hpcnn.comm.protocol import Array, ExchangeOptions, HostArray, ReplicatedExchange, ShardedOptions
from hpcnn.comm.shared_memory import CommonArray, HostMemory, PrivateMemory, SharedMemory, SharedMemoryError
from hpcnn.comm.supervision.heartbeats import Heartbeats, MpiHeartbeats
from hpcnn.comm.supervision.watched_rank import watched_rank
from hpcnn.core.activity import WAIT, Activity
from hpcnn.system.memory import aligned_empty
from hpcnn.system.processes import Process

if TYPE_CHECKING:
    from mpi4py import MPI

T = TypeVar("T")

SHARING = "HPCNN_SHARED_MEMORY"
"""Environment variable: ``off`` keeps the ranks of a host from sharing memory."""

_TREE_TAG = 1
"""Of the messages of `MpiCommunicator.allreduce`."""


class MpiCommunicator:
    """All ranks of MPI_COMM_WORLD, or those of `world`; after a recovery, the survivors."""

    def __init__(self, world: MPI.Intracomm | None = None) -> None:
        from mpi4py import MPI

        self.host = MPI.Get_processor_name()
        self.notes: list[str] = []
        self.activity = Activity()
        self._threads = MPI.Query_thread() >= MPI.THREAD_SERIALIZED
        """Whether a thread other than the main one may call MPI."""
        self.fault_tolerance: FaultTolerance = MpiFaultTolerance(self)
        self._of_all = world is None
        self._join(MPI.COMM_WORLD.Dup() if world is None else world)

    def _join(self, world: MPI.Intracomm) -> None:
        """Become a rank of `world`. Only collectives of `world` are called here, since a rank may die meanwhile."""
        from mpi4py import MPI

        self._world = world
        self._open: list[MPI.Comm] = [world]
        self._failures = world.Dup()  # of its own, so that a failing rank disturbs no other collective
        self._host = host = world.Split_type(MPI.COMM_TYPE_SHARED)
        self.rank, self.size = world.rank, world.size
        self.local_rank, self.local_size = host.rank, host.size
        first_of_host = host.Get_group().Translate_ranks([0], world.Get_group())[0]
        self.members = ulfm.call_checked(
            world,
            lambda: Members.gather(world.allgather, Process.own(self.host), watched_rank.file, first_of_host),
        )
        if self._of_all:
            shown = list(zip(self.members.processes, self.members.pages, strict=True))
            watched_rank.joined(self.activity, shown, self.rank)
        links = MpiLinks(world.Dup())
        alone: HostMemory = PrivateMemory()
        self._private = Place(self.rank, Topology.of(range(self.size)), alone, links)
        memory: HostMemory = alone
        if self.local_size > 1:
            sleeping = partial(_barrier_without_spinning, host)
            memory = SharedMemory(self.local_rank, self.local_size, host.allgather, _barrier_of(host), sleeping)
        self._shared: Place | None = Place(self.rank, self.members.topology, memory, links)
        if os.environ.get(SHARING) == "off":
            self._shared = None
        self._chooser = Chooser(self.broadcast, self.allreduce)
        self._leaders = world.Split(0 if self.local_rank == 0 else 1)
        self._open = [world, self._failures, host, links.world, self._leaders]
        """The communicators to revoke when a rank is lost, so that no rank waits for it."""

    @property
    def hosts(self) -> int:
        """The number of groups of ranks that share memory."""
        return len((self._shared or self._private).topology.hosts)

    @property
    def network(self) -> Network | None:
        """What messages between these groups cost, as far as an exchange had it measured."""
        return self._chooser.network(self.hosts)

    def exchange(
        self, shards: int, length: int, dtype: DTypeLike, stats_length: int, **options: Unpack[ExchangeOptions]
    ) -> ReplicatedExchange:
        """Return the fastest exchange for this length. All give the same bits."""
        self._prepare(shards, options)

        def build(place: Place) -> ReplicatedExchange:
            work = Workload.of(place.topology, shards, length, dtype, stats_length, options)
            choice = self._chooser.choose(place, work, gather=not options.get("compression"))
            if choice != GATHER:
                halving = choice == HALVING
                return TreeAllreduce(place, shards, length, dtype, stats_length, halving=halving, **options)
            one_host = len(place.topology.hosts) == 1
            make: Callable[[Sequence[int]], Gather] = (
                partial(HostGather, place.memory) if one_host else partial(WorldGather, self._world, place.topology)
            )
            return AllgatherExchange(place.topology, self.rank, make, shards, length, dtype, stats_length)

        return self._build(build)

    def sharded_exchange(
        self, shards: int, target: HostArray, length: int, stats_length: int, **options: Unpack[ShardedOptions]
    ) -> TreeExchange:
        """Return a sharded exchange for `target`."""
        self._prepare(shards, options)
        array = target.array

        def build(place: Place) -> TreeExchange:
            work = Workload.of(place.topology, shards, length, array.dtype, stats_length, options)
            halving = self._chooser.choose(place, work, gather=False) == HALVING
            return TreeExchange(
                place, shards, length, array.dtype, stats_length, target=array, halving=halving, **options
            )

        return self._build(build)

    def _prepare(self, shards: int, options: ExchangeOptions) -> None:
        check_shards(shards, self.size)
        if not self._threads:
            options["bucket"] = 0

    def host_array(self, length: int, dtype: DTypeLike, *, shared: bool) -> HostArray:
        """Return an array of zeros, shared by the ranks of the host if asked for and possible."""
        kind = np.dtype(dtype)

        def build(place: Place) -> HostArray:
            shares = shared and place is self._shared
            memory = place.memory if shares else self._private.memory
            array = memory.allocate_common(length * kind.itemsize)[: length * kind.itemsize].view(kind)
            broadcast = self._broadcast_leaders if shares else self.broadcast_array
            return CommonArray(memory, array, broadcast)

        return self._build(build)

    def _build(self, build: Callable[[Place], T]) -> T:
        """Return ``build(place)`` with shared memory; if any host can't share, without it on all."""
        if self._shared is not None:
            result, trouble = None, ""
            try:
                with self.activity.during(WAIT):
                    result = build(self._shared)
            except SharedMemoryError as error:
                trouble = f"on {self.host}, {error}"
            trouble = self.allreduce(trouble, lambda left, right: left or right)
            if result is not None and not trouble:
                return result
            self._shared = None
            self.notes.append(f"the ranks of a node send their gradients, since they can't share memory ({trouble})")
        return build(self._private)

    def _broadcast_leaders(self, array: Array) -> None:
        if self.local_rank == 0:
            self._leaders.Bcast(byte_message(array), root=0)
        self._host.Barrier()

    def allgather(self, value: Any) -> list[Any]:
        """Return the small object `value` of every rank, by rank."""
        with self.activity.during(WAIT):
            return ulfm.call_checked(self._world, lambda: self._world.allgather(value))

    def allreduce(self, value: T, merge: Callable[[T, T], T]) -> T:
        """Return the small objects `value` of all ranks, merged along a tree."""
        world = self._world

        def receive(source: int) -> T:
            received: T = world.recv(source=source, tag=_TREE_TAG)
            return received

        def reduce() -> Any:
            merged = merge_along_tree(
                self.rank, self.size, value, merge, lambda target, own: world.send(own, target, _TREE_TAG), receive
            )
            return world.bcast(merged, root=0)

        with self.activity.during(WAIT):
            return ulfm.call_checked(world, reduce)  # type: ignore[no-any-return]

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's small object `value`."""
        with self.activity.during(WAIT):
            return ulfm.call_checked(self._world, lambda: self._world.bcast(value, root=0))

    def broadcast_array(self, array: Array) -> None:
        """Overwrite the contiguous `array` with rank 0's."""
        with self.activity.during(WAIT):
            ulfm.call_checked(self._world, lambda: self._world.Bcast(byte_message(array), root=0))

    def gather_arrays(self, array: Array) -> list[Array] | None:
        """Return every rank's contiguous `array` by rank, on rank 0; None elsewhere."""
        from mpi4py import MPI

        rows = ulfm.call_checked(self._world, lambda: self._world.gather(array.shape[0], root=0))
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        if rows is None:
            self._world.Gatherv(data, None, root=0)
            return None
        row_bytes = array.dtype.itemsize * math.prod(array.shape[1:])
        counts = [count * row_bytes for count in rows]
        starts = [0, *accumulate(counts[:-1])]
        received = aligned_empty(sum(counts), np.uint8)
        message = [received, counts, starts, MPI.BYTE]
        ulfm.call_checked(self._world, lambda: self._world.Gatherv(data, message, root=0))
        return [
            received[start : start + size].view(array.dtype).reshape(count, *array.shape[1:])
            for count, start, size in zip(rows, starts, counts, strict=True)
        ]

    def barrier(self, *, spin: bool = True) -> None:
        """Return once every rank has come here."""
        with self.activity.during(WAIT):
            if spin:
                self._world.Barrier()
            else:
                _barrier_without_spinning(self._world)


class MpiFaultTolerance:
    """The fault tolerance of an `MpiCommunicator`."""

    def __init__(self, comm: MpiCommunicator) -> None:
        self._comm = comm

    def heartbeats(self) -> Heartbeats | None:
        """Return a new side channel, if MPI supports several threads at once."""
        from mpi4py import MPI

        comm = self._comm
        if comm.size == 1 or MPI.Query_thread() < MPI.THREAD_MULTIPLE:
            return None
        world = comm._world.Dup()
        comm._open.append(world)
        return MpiHeartbeats(world, comm.members.processes)

    def all_failing(self, timeout_s: float) -> bool:
        """Return whether every rank comes here within `timeout_s` seconds."""
        request = self._comm._failures.Ibarrier()
        deadline = time.monotonic() + timeout_s
        while not request.Test():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    @property
    def recovery_obstacle(self) -> str:
        """Why the ranks could not continue without one that died; empty if they could."""
        return ulfm.recovery_obstacle()

    def recover(self, error: BaseException, progress: Any) -> list[str]:
        """Continue without the ranks that died, if that is what caused `error`; return their names."""
        from mpi4py import MPI

        if not isinstance(error, MPI.Exception) or self.recovery_obstacle:
            return []
        atexit.unregister(MPI.Finalize)  # after a loss it may wait for the dead
        comm = self._comm
        group = comm._world.Get_group()
        names = [f"rank {rank} on {process.host}" for rank, process in enumerate(comm.members.processes)]
        with watched_rank.recovering():
            ulfm.revoke(comm._open)
            world = ulfm.shrink(comm._world, progress, comm._join, lambda: comm._open)
        left = group.Translate_ranks(None, world.Get_group())
        return [name for name, rank in zip(names, left, strict=True) if rank == MPI.UNDEFINED]


def _barrier_of(host: MPI.Comm) -> Callable[[], None]:
    """Return a barrier; a persistent one where MPI has it, which takes a fifth less time."""
    try:
        request = host.Barrier_init()
    except NotImplementedError:
        return host.Barrier
    start, wait, look = request.Start, request.Wait, ulfm.loss_check(host)

    def meet() -> None:
        start()
        wait()
        look()

    return meet


def _barrier_without_spinning(ranks: MPI.Comm) -> None:
    request = ranks.Ibarrier()
    while not request.Test():
        time.sleep(POLL_S)

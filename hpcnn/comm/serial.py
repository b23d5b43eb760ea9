"""One rank alone: the communicator of a run without MPI."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, Unpack

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.comm.exchange.buffers import BufferLayout
from hpcnn.comm.exchange.plan import Topology
from hpcnn.comm.exchange.replicated import ReplicatedBase
from hpcnn.comm.exchange.transport import Message, Place
from hpcnn.comm.exchange.tree_allreduce import TreeAllreduce
from hpcnn.comm.exchange.tree_exchange import TreeExchange
from hpcnn.comm.fault_tolerance import FaultTolerance, OneProcess
from hpcnn.comm.network import Network
from hpcnn.comm.protocol import Array, Contribution, ExchangeOptions, HostArray, ReplicatedExchange, ShardedOptions
from hpcnn.comm.shared_memory import CommonArray, PrivateMemory
from hpcnn.core.activity import Activity
from hpcnn.system.memory import kept_empty

T = TypeVar("T")


class SerialExchange(ReplicatedBase):
    """The exchange of one rank: it owns the root of the tree, so that nothing is left to add."""

    def __init__(self, contribution: Contribution) -> None:
        super().__init__((contribution,), contribution.vector, contribution.stats)

    def allreduce(self) -> None:
        """Do nothing: the one contribution is the sum."""


class _NoMessages:
    """The links of one rank to nobody."""

    def transfer(self, sends: Sequence[Message], receives: Sequence[Message], tag: int) -> _NoMessages:
        """Return a transfer of nothing."""
        assert not sends
        assert not receives
        return self

    def allgather(self, own: Array, counts: Sequence[int]) -> Array:
        """Return `own`."""
        return own

    def start(self) -> None:
        """Do nothing."""

    def wait(self, *, spin: bool) -> None:
        """Return at once."""

    def free(self) -> None:
        """Do nothing."""


class SerialCommunicator:
    """A world of one rank."""

    rank = 0
    size = 1
    local_rank = 0
    local_size = 1
    hosts = 1
    network: Network | None = None

    def __init__(self) -> None:
        self.host = socket.gethostname()
        self.notes: list[str] = []
        self.activity = Activity()
        self.fault_tolerance: FaultTolerance = OneProcess(1)
        self._place = Place(0, Topology(((0,),)), PrivateMemory(), _NoMessages())

    def exchange(
        self, shards: int, length: int, dtype: DTypeLike, stats_length: int, **options: Unpack[ExchangeOptions]
    ) -> ReplicatedExchange:
        """Return the exchange of one rank."""
        if options.get("compression"):  # what is rounded is rounded here too
            return TreeAllreduce(self._place, shards, length, dtype, stats_length, **options)
        layout = BufferLayout(1, length, dtype, stats_length)
        memory = kept_empty(layout.size, np.uint8)
        memory[...] = 0
        return SerialExchange(*layout.contributions(memory, [(0, shards)]))

    def sharded_exchange(
        self, shards: int, target: HostArray, length: int, stats_length: int, **options: Unpack[ShardedOptions]
    ) -> TreeExchange:
        """Return an exchange in which the one rank owns everything."""
        return TreeExchange(
            self._place, shards, length, target.array.dtype, stats_length, target=target.array, **options
        )

    def host_array(self, length: int, dtype: DTypeLike, *, shared: bool) -> CommonArray:
        """Return an array of zeros."""
        array = kept_empty(length, dtype)
        array[...] = 0
        return CommonArray(PrivateMemory(), array, self.broadcast_array)

    def allgather(self, value: Any) -> list[Any]:
        """Return ``[value]``."""
        return [value]

    def allreduce(self, value: T, merge: Callable[[T, T], T]) -> T:
        """Return `value`."""
        return value

    def broadcast(self, value: Any) -> Any:
        """Return `value`."""
        return value

    def broadcast_array(self, array: Array) -> None:
        """Do nothing."""

    def gather_arrays(self, array: Array) -> list[Array] | None:
        """Return ``[array]``."""
        return [array]

    def barrier(self, *, spin: bool = True) -> None:
        """Return at once."""

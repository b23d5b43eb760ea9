"""Where a rank stands among the others: with whom it shares memory, and by what messages it reaches the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hpcnn.comm.exchange.plan import Topology
from hpcnn.comm.protocol import Array
from hpcnn.comm.shared_memory import HostMemory

Message = tuple[int, Array]
"""The rank at the other end, and the bytes."""


class Transfer(Protocol):
    """Messages that are sent and received together, again and again."""

    def start(self) -> None:
        """Let them go."""
        ...

    def wait(self, *, spin: bool) -> None:
        """Return once all have come. Without `spin`, occupy no core meanwhile."""
        ...

    def free(self) -> None:
        """Forget them: they are not sent again."""
        ...


class Links(Protocol):
    """Messages between ranks, of hosts that share no memory."""

    def transfer(self, sends: Sequence[Message], receives: Sequence[Message], tag: int) -> Transfer:
        """Return a transfer of contiguous arrays. Between two ranks, what is sent first is received first."""
        ...

    def allgather(self, own: Array, counts: Sequence[int]) -> Array:
        """Return the float64 vectors of all ranks, of lengths `counts`, one after the other. Collective."""
        ...


@dataclass(frozen=True)
class Place:
    """Where a rank stands among all: with whom it shares memory, and how it reaches the others."""

    rank: int
    topology: Topology
    memory: HostMemory
    links: Links

    @property
    def host(self) -> int:
        """The number of the own host."""
        return self.topology.host_of(self.rank)

"""Who the ranks are: the one list of names that every rank keeps, and which of them share memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hpcnn.comm.exchange.plan import Topology
from hpcnn.system.processes import Process


@dataclass(frozen=True)
class Members:
    """All ranks of a communicator, by rank."""

    processes: Sequence[Process]
    shown: Sequence[tuple[Process, int]]
    """Each with the descriptor of its page, by which other ranks of its host open it."""
    topology: Topology
    """Which of them can share memory."""

    @classmethod
    def gather(cls, allgather: Callable[[Any], list[Any]], own: Process, page: int, first_of_host: int) -> Members:
        """Return all ranks, of which each brings itself and the first rank of its host. Collective."""
        # In one message, as tuples: each rank receives as many as there are ranks.
        fields = own.host, own.number, own.start, own.boot, own.namespace
        everyone = allgather((first_of_host, page, *fields))
        shown = [(Process(*process), page) for _, page, *process in everyone]
        return cls([process for process, _ in shown], shown, Topology.of([first for first, *_ in everyone]))

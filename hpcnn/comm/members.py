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
    pages: Sequence[int]
    """The descriptor of each rank's page, by which other ranks of its host open it."""
    topology: Topology
    """Which of them can share memory."""

    @classmethod
    def gather(cls, allgather: Callable[[Any], list[Any]], own: Process, page: int, first_of_host: int) -> Members:
        """Return all ranks, of which each brings itself and the first rank of its host. Collective."""
        # As tuples, and equal texts once: each rank receives and keeps as many as there are ranks.
        fields = own.host, own.number, own.start, own.boot, own.namespace
        everyone = allgather((first_of_host, page, *fields))
        texts: dict[Any, Any] = {}
        processes = [Process(*(texts.setdefault(each, each) for each in process)) for _, _, *process in everyone]
        return cls(processes, [page for _, page, *_ in everyone], Topology.of([first for first, *_ in everyone]))

"""One rank alone: the communicator of a run without MPI."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from numpy.typing import DTypeLike

from hpcnn.comm.contributions import allocate, nodes_by_rank
from hpcnn.comm.protocol import Array, Contribution


class SerialExchange:
    """The exchange of one rank: it owns the root of the tree, so that nothing is left to add."""

    def __init__(self, contribution: Contribution) -> None:
        self.contributions: Sequence[Contribution] = (contribution,)
        self.vector = contribution.vector
        self.tail = contribution.tail

    def allreduce(self) -> None:
        """Do nothing: the one contribution is the sum."""


class SerialCommunicator:
    """A world of one rank."""

    rank = 0
    size = 1
    local_rank = 0
    local_size = 1

    def __init__(self) -> None:
        self.host = socket.gethostname()

    def exchange(self, shards: int, length: int, dtype: DTypeLike, tail_length: int) -> SerialExchange:
        """Return the exchange of one rank."""
        (nodes,) = nodes_by_rank(shards, 1)
        return SerialExchange(*allocate(nodes, length, dtype, tail_length))

    def allgather(self, value: Any) -> list[Any]:
        """Return ``[value]``."""
        return [value]

    def broadcast(self, value: Any) -> Any:
        """Return `value`."""
        return value

    def broadcast_array(self, array: Array) -> None:
        """Do nothing."""

    def gather_arrays(self, array: Array) -> list[Array] | None:
        """Return ``[array]``."""
        return [array]

    def barrier(self) -> None:
        """Return at once."""

    def all_failing(self, timeout_s: float) -> bool:
        """Return true."""
        return True

    def abort(self, exit_code: int) -> NoReturn:
        """Leave with `exit_code`."""
        sys.exit(exit_code)

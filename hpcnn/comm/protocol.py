"""What every communicator offers: who am I, a few collectives, and the exact exchange of gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from numpy.typing import DTypeLike, NDArray

from hpcnn.tree import Node

Array = NDArray[Any]


@dataclass(frozen=True)
class Contribution:
    """What one rank adds for one tree node: filled by the rank before each `allreduce`."""

    node: Node
    vector: Array
    """The gradient sum over the node's shards, of shape (length,)."""
    tail: Array
    """Sums that travel with it (loss, metrics, count, stop flag), float64 of shape (tail_length,)."""


class Exchange(Protocol):
    """Buffers for one vector and its tail, and the collective that sums them over all shards, along the tree."""

    contributions: Sequence[Contribution]
    """This rank's buffers, one a maximal tree node that it owns."""
    vector: Array
    """The sum over all shards; valid from `allreduce` until a contribution is written again."""
    tail: Array
    """The sum of the tails; valid as long as `vector`."""

    def allreduce(self) -> None:
        """Sum all contributions of all ranks. Collective; leaves the same bits on each rank, for any rank count."""
        ...


class Communicator(Protocol):
    """A fixed group of ranks. Every method but `all_failing` and `abort` is collective."""

    rank: int
    size: int
    local_rank: int
    """Rank among those of the same node."""
    local_size: int
    host: str

    def exchange(self, shards: int, length: int, dtype: DTypeLike, tail_length: int) -> Exchange:
        """Return an exchange for vectors of `length` over `shards` gradient shards.

        Raises:
            CommunicatorError: there are more ranks than shards.
        """
        ...

    def allgather(self, value: Any) -> list[Any]:
        """Return the small object `value` of every rank, by rank."""
        ...

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's small object `value`."""
        ...

    def broadcast_array(self, array: Array) -> None:
        """Overwrite the contiguous `array` with rank 0's."""
        ...

    def gather_arrays(self, array: Array) -> list[Array] | None:
        """Return every rank's contiguous `array` by rank, on rank 0; None elsewhere.

        The arrays may differ in their first axis alone.
        """
        ...

    def barrier(self) -> None:
        """Return once every rank has come here."""
        ...

    def all_failing(self, timeout_s: float) -> bool:
        """Return whether every rank comes here within `timeout_s` seconds; for a rank that is about to fail."""
        ...

    def abort(self, exit_code: int) -> NoReturn:
        """End the whole job at once with `exit_code`, from any one rank."""
        ...

"""What every communicator offers: who am I, a few collectives, and the exact exchange of gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict, Unpack

from numpy.typing import DTypeLike, NDArray

from hpcnn.comm.fault_tolerance import FaultTolerance
from hpcnn.core.activity import Activity
from hpcnn.core.tree import Subtree

Array = NDArray[Any]
Consume = Callable[[int], bool]
"""Takes the part of that number of the sum, and returns whether something is wrong with it: all ranks will know."""


@dataclass(frozen=True)
class Compression:
    """How gradient sums are rounded on their way. It is part of what defines the result."""

    kind: str
    """A name in `hpcnn.comm.exchange.formats.FORMATS`."""
    groups: int
    """How many sums are rounded on the way in, each of as many shards, nearly: a power of two."""


class ExchangeOptions(TypedDict, total=False):
    """What an exchange may be asked for beside its buffers."""

    bucket: int
    """Entries that travel together while the rest is computed; 0, or left out: all at the end."""
    compression: Compression | None
    """How the sums are rounded; left out, they are exact."""


class ShardedOptions(ExchangeOptions, total=False):
    """What a sharded exchange may be asked for beside its buffers."""

    grain: int
    """Pieces are cut at multiples of so many entries; 1 if left out."""


@dataclass(frozen=True)
class Contribution:
    """What one rank adds for one subtree: filled by the rank before each exchange."""

    subtree: Subtree
    vector: Array
    """The gradient sum over the subtree's shards, of shape (length,)."""
    stats: Array
    """Sums that travel with it (loss, metrics, count, stop flag), float64 of shape (stats_length,)."""


class Residuals(Protocol):
    """What compression has rounded off so far and still owes, each entry on the rank that rounds it."""

    @property
    def names(self) -> Sequence[str]:
        """The names of the vectors that it is kept in."""
        ...

    def gather(self, name: str, block: int) -> Iterator[Array | None]:
        """Yield a vector of shape (length,) in blocks of `block` entries, on rank 0; None elsewhere. Collective."""
        ...

    def load(self, state: Mapping[str, Array]) -> None:
        """Take the own entries of whole vectors of the same names.

        Raises:
            CheckpointError: they are those of another job.
        """
        ...


class Exchange(Protocol):
    """Buffers for one vector and its stats, and the collective that sums them over all shards, along the tree.

    `allreduce` does it at once. In place of it a step may be `start`, then `ready` as often as one likes, and
    `finish`, so that what is ready can travel while the rest is computed.
    """

    contributions: Sequence[Contribution]
    """This rank's buffers, one a maximal subtree that it owns. An exchange uses them up."""
    vector: Array
    """The sum over all shards, for reading; the same bits on each rank, for any rank count. Valid until the next step
    begins to fill the contributions."""
    stats: Array
    """The sum of the stats; valid as long as `vector`."""
    activity: Activity
    """Told what the exchange is doing. Of its own, until it is set to that of the rank."""
    overlap: bool
    """Whether what is ready travels while the rest is computed. May be changed between steps, on all ranks alike."""
    residuals: Residuals | None
    """What compression owes; None without it."""

    def allreduce(self) -> None:
        """Sum all contributions of all ranks. Collective."""
        ...

    def start(self) -> None:
        """Begin a step."""
        ...

    def ready(self, start: int) -> None:
        """Say that the stats, and all contributions' entries from `start` on, are what they are to be."""
        ...

    def finish(self) -> bool:
        """Complete the step. Collective. Returns false, since nothing can be wrong with a sum."""
        ...


class ShardedExchange(Protocol):
    """An exchange in which each rank gets the sum of some parts of the vector, and gives on what it makes of them.

    For each part that this rank owns, `consume` takes the sum by `sum_part`, and writes what all ranks are to have
    there into the array that the exchange was made for.
    """

    contributions: Sequence[Contribution]
    """As for `Exchange`."""
    stats: Array
    """The sum of the stats; valid from the first call of `consume` on."""
    activity: Activity
    """As for `Exchange`."""
    overlap: bool
    """As for `Exchange`."""
    residuals: Residuals | None
    """As for `Exchange`."""
    parts: list[slice]
    """What this rank owns, in blocks."""

    def start(self, consume: Consume | None = None, between: Callable[[], None] | None = None) -> None:
        """Begin a step.

        `between` is called once, when all own parts can be summed and none is consumed. Both may be called on another
        thread, from the first `ready` on.
        """
        ...

    def ready(self, start: int) -> None:
        """Say that the stats, and all contributions' entries from `start` on, are what they are to be."""
        ...

    def finish(self) -> bool:
        """Complete the step; return whether `consume` found something wrong on any rank. Collective."""
        ...

    def sum_part(self, part: int, out: Array) -> None:
        """Write the sum of the part of that number into `out`; once a step, since contributions are used up by it."""
        ...

    def allgather_parts(self, values: Array, grain: int) -> Array:
        """Return one value for each block of `grain` entries of the vector, given those of the own parts in order.

        Collective; for the call of `between`. The exchange must have been made for pieces of whole blocks.
        """
        ...

    def gather_state(self, own: Array, block: int) -> Iterator[Array | None]:
        """Yield a vector, of which `own` holds the own parts one after the other, in blocks of `block` entries.

        On rank 0; None elsewhere. Collective: all ranks take all blocks.
        """
        ...


class HostArray(Protocol):
    """An array of which the ranks of a host have one copy together, or else each its own."""

    array: Array
    writes: bool
    """Whether this rank writes what all ranks of the host would write alike."""

    def barrier(self) -> None:
        """Return once every rank that shares the copy has come here, and sees what the others wrote."""
        ...

    def broadcast(self) -> None:
        """Overwrite every copy with that of rank 0. Collective among all ranks."""
        ...


class Communicator(Protocol):
    """A fixed group of ranks. Every method is collective."""

    rank: int
    size: int
    local_rank: int
    """Rank among those of the same host."""
    local_size: int
    host: str
    notes: list[str]
    """What the user should know of how the ranks are connected, for rank 0 to say once."""
    activity: Activity
    """What this rank is doing."""
    fault_tolerance: FaultTolerance

    @property
    def hosts(self) -> int:
        """How many groups of ranks there are that share memory."""
        ...

    def exchange(
        self, shards: int, length: int, dtype: DTypeLike, stats_length: int, **options: Unpack[ExchangeOptions]
    ) -> Exchange:
        """Return an exchange for vectors of `length` over `shards` gradient shards.

        Raises:
            CommunicatorError: there are more ranks than shards.
        """
        ...

    def sharded_exchange(
        self, shards: int, target: HostArray, length: int, stats_length: int, **options: Unpack[ShardedOptions]
    ) -> ShardedExchange:
        """Return a sharded exchange that makes the first `length` entries of `target` the same everywhere.

        Raises:
            CommunicatorError: there are more ranks than shards.
        """
        ...

    def host_array(self, length: int, dtype: DTypeLike, *, shared: bool) -> HostArray:
        """Return an array of zeros, shared by the ranks of the host if asked for and possible."""
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

    def barrier(self, *, spin: bool = True) -> None:
        """Return once every rank has come here. Without `spin`, occupy no core meanwhile."""
        ...

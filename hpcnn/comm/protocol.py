"""The interface of communicators: ranks, collectives, and the exact exchange of gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict, TypeVar, Unpack

from numpy.typing import DTypeLike, NDArray

from hpcnn.comm.fault_tolerance import FaultTolerance
from hpcnn.comm.network import Network
from hpcnn.core.activity import Activity
from hpcnn.core.dealing import Chunk, Dealing
from hpcnn.core.tree import Subtree

T = TypeVar("T")
Array = NDArray[Any]
UpdateStep = Callable[[], bool]
"""Goes through the buckets of an exchange, and returns what `Exchange.complete` does."""
GatherCells = Callable[[Array], Array]
"""``own rows -> rows of all ranks``, one row per cell of the vector, in the order of the vector. Collective."""


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

    alignment: int
    """Partitions are cut at multiples of this many entries; 1 if left out."""


@dataclass(frozen=True)
class Contribution:
    """What one rank adds for one subtree: filled by the rank before each exchange."""

    subtree: Subtree
    vector: Array
    """The gradient sum over the subtree's shards, of shape (length,)."""
    stats: Array
    """Sums that travel with it (loss, metrics, count, stop flag), float64 of shape (stats_length,)."""


class SpreadState(Protocol):
    """Vectors of which each rank holds the entries of its own parts."""

    def deal(self, own: Array, dealing: Dealing) -> Iterator[Chunk]:
        """Yield the chunks that this rank takes of a vector, of which `own` holds its parts one after the other.

        Collective: all ranks take all of theirs, of one vector after the other. `own` does not change meanwhile.
        """
        ...


class Residuals(Protocol):
    """What compression has rounded off so far and still owes, each entry on the rank that rounds it."""

    @property
    def names(self) -> Sequence[str]:
        """The names of the vectors that it is kept in."""
        ...

    def deal(self, name: str, dealing: Dealing) -> Iterator[Chunk]:
        """Yield the chunks that this rank takes of a vector of shape (length,); see `SpreadState.deal`. Collective."""
        ...

    def load(self, state: Mapping[str, Array]) -> None:
        """Take the own entries of whole vectors of the same names.

        Raises:
            CheckpointError: they are those of another job.
        """
        ...


class Bucket(Protocol):
    """Some entries of the vector that are summed, updated and sent together."""

    @property
    def parts(self) -> range:
        """The numbers of this rank's parts in it; see `Exchange.parts`."""
        ...

    def send(self) -> None:
        """Send what this rank's parts have become to whoever needs it."""
        ...


class Exchange(Protocol):
    """Buffers for one vector and its stats, their sums over all shards along the tree, and who updates what by them.

    A step is `start`, `ready` as often as one likes while the contributions are filled, and `finish`. The step itself
    is a function of the caller, which the exchange runs within `finish`, or on its thread beside the computation::

        def step() -> bool:
            ok = True
            for bucket in exchange.buckets():
                for part in bucket.parts:
                    exchange.sum_into(part, gradient)
                    ok &= update(exchange.parts[part], gradient)
                bucket.send()
            return exchange.complete(ok)
    """

    contributions: Sequence[Contribution]
    """This rank's buffers, one a maximal subtree that it owns. An exchange uses them up."""
    stats: Array
    """The sum of the stats: valid from the first bucket on, until the next step begins to fill the contributions."""
    parts: Sequence[slice]
    """What this rank updates, in blocks: in the array that the exchange was made for, if it was."""
    keeps_sums: bool
    """Whether `sum_into` may be called again for the same part; else contributions are used up by it."""
    activity: Activity
    """Told what the step is doing: but for waiting and summing, it updates. Set it to that of the rank."""
    overlap: bool
    """Whether what is ready travels while the rest is computed. May be changed between steps, on all ranks alike."""
    residuals: Residuals | None
    """What compression owes; None without it."""
    spread: SpreadState | None
    """Brings vectors together that have one entry for each of the exchange's; None where every rank has them whole."""
    ready: Callable[[int], None]
    """``start -> None``: says that the stats, and all contributions' entries from `start` on, are complete."""

    def start(self, step: UpdateStep) -> None:
        """Begin a step."""
        ...

    def finish(self) -> bool:
        """Return what the step returns. Collective."""
        ...

    def buckets(self) -> Iterable[Bucket]:
        """Yield each bucket once this rank's parts of it can be summed. For the step.

        Each must be sent, in order; whoever needs all sums before the first update makes a list of the buckets first.
        """
        ...

    def sum_into(self, part: int, out: Array) -> None:
        """Write the sum of the part of that number into `out`."""
        ...

    def complete(self, ok: bool) -> bool:
        """Return whether `ok` holds on every rank, once the whole vector is up to date. Ends the step. Collective."""
        ...

    def cell_gather(self, starts: Sequence[int], columns: int) -> GatherCells:
        """Return what gathers rows of `columns` values for the cells of the vector that begin at `starts`. Collective.

        To be called within the step. Every cell must be within one part. The rows of this rank are those of its parts,
        in their order.
        """
        ...


class ReplicatedExchange(Exchange, Protocol):
    """An exchange in which every rank has the whole sum, and updates everything."""

    vector: Array
    """The sum over all shards, for reading; the same bits on each rank, for any rank count. Valid as `stats`."""
    met: bool
    """Set before `allreduce`: all ranks have met since they filled their contributions, and need not meet again."""

    def allreduce(self) -> None:
        """Sum all contributions of all ranks. Collective."""
        ...


class HostArray(Protocol):
    """An array of which the ranks of a host have one copy together, or else each its own."""

    array: Array
    rank: int
    """This rank among those that share the copy."""
    size: int
    """Their number."""
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
    """What the user should know about the connection of the ranks; rank 0 reports it once."""
    activity: Activity
    """What this rank is doing."""
    fault_tolerance: FaultTolerance

    @property
    def hosts(self) -> int:
        """The number of groups of ranks that share memory."""
        ...

    @property
    def network(self) -> Network | None:
        """What messages between these groups cost, as far as an exchange had it measured; the same on all ranks."""
        ...

    def exchange(
        self, shards: int, length: int, dtype: DTypeLike, stats_length: int, **options: Unpack[ExchangeOptions]
    ) -> ReplicatedExchange:
        """Return an exchange for vectors of `length` over `shards` gradient shards.

        Raises:
            CommunicatorError: there are more ranks than shards.
        """
        ...

    def sharded_exchange(
        self, shards: int, target: HostArray, length: int, stats_length: int, **options: Unpack[ShardedOptions]
    ) -> Exchange:
        """Return an exchange in which each rank updates its own parts of the first `length` entries of `target`.

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

    def allreduce(self, value: T, merge: Callable[[T, T], T]) -> T:
        """Return the small objects `value` of all ranks, merged along a tree in the order of ranks.

        `merge` is associative, raises nothing, and may use up its arguments. Where all values can be merged into one of
        their size, this takes a time that grows with the logarithm of the number of ranks; `allgather` takes one that
        grows with the number.
        """
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

"""Which rank writes which chunks of a vector that lies on all of them: plain arithmetic, the same on every rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from numpy.typing import NDArray


class Chunk(NamedTuple):
    """A chunk of a vector, on the rank that takes it."""

    number: int
    entries: NDArray[Any]
    """Its entries, and behind them the margin where the next chunk is another rank's."""
    skipped: int
    """How many of its first entries are in the margin of another rank's chunk, which writes them."""


@dataclass(frozen=True)
class Dealing:
    """How the chunks of a vector are dealt to the ranks."""

    chunk: int
    """Entries of a chunk; the last may have fewer."""
    margin: int = 0
    """Entries of the next chunk that a rank takes too, and writes: so that two ranks' writes meet where they may."""
    shared: bool = False
    """Whether every rank takes its share; if not, rank 0 takes all."""
    kept: float = 1.0
    """The part of its share that rank 0 keeps; the ranks beside it take the rest, since it has more to do than they."""


class Takers:
    """The ranks that take the chunks of one vector: each rank neighbouring ones, and some of those that rank 0 leaves.

    Args:
        dealing: how they are dealt.
        length: entries of the vector.
        order: the ranks in the order of their entries in the vector, so that most chunks stay where they are.
        beside: the other ranks of rank 0's host.

    >>> takers = Takers(Dealing(chunk=10, shared=True, kept=0.5), 60, order=[0, 1, 2], beside=[1])
    >>> [takers.of(number) for number in range(6)], takers.taken_by(1)
    ([0, 1, 1, 1, 2, 2], [1, 2, 3])
    """

    def __init__(self, dealing: Dealing, length: int, order: Sequence[int], beside: Sequence[int]) -> None:
        self._dealing, self._length, self._order, self._beside = dealing, length, order, beside
        self.count = max(1, -(-length // dealing.chunk))
        """Chunks of the vector: one even if it is empty."""
        self._root = order.index(0)
        self._end = self._first(self._root + 1)
        """The end of rank 0's share, and the end of what it keeps of that."""
        self._left = self._first(self._root)
        self._left += round((dealing.kept if beside else 1) * (self._end - self._left))

    def _first(self, position: int) -> int:
        return -(-position * self.count // len(self._order))

    def of(self, number: int) -> int:
        """Return the rank that takes a chunk."""
        if not self._dealing.shared:
            return 0
        if self._left <= number < self._end:
            return self._beside[(number - self._left) % len(self._beside)]
        return self._order[number * len(self._order) // self.count]

    def taken_by(self, rank: int) -> Sequence[int]:
        """Return the numbers of the chunks that a rank takes, ascending."""
        if not self._dealing.shared:
            return range(0 if rank else self.count)
        if rank == 0:
            return range(self._first(self._root), self._left)
        position = self._order.index(rank)
        taken = [*range(self._first(position), self._first(position + 1))]
        if rank in self._beside:
            taken += range(self._left + self._beside.index(rank), self._end, len(self._beside))
        return sorted(taken)

    def wanted(self, number: int) -> tuple[int, int]:
        """Return which entries the rank takes with a chunk."""
        start, stop = number * self._dealing.chunk, (number + 1) * self._dealing.chunk
        return start, min(stop + self._margin_behind(number), self._length)

    def chunk(self, number: int, entries: NDArray[Any]) -> Chunk:
        """Return a chunk, given the entries that are wanted."""
        return Chunk(number, entries, self._margin_behind(number - 1) if number else 0)

    def wanting(self, start: int, stop: int) -> range:
        """Return the numbers of the chunks that want some of these entries, and perhaps one that wants none."""
        return range(max(0, (start - self._dealing.margin) // self._dealing.chunk), -(-stop // self._dealing.chunk))

    def _margin_behind(self, number: int) -> int:
        if number + 1 >= self.count or self.of(number) == self.of(number + 1):
            return 0
        return self._dealing.margin

"""How a rank adds along the tree what it has access to: the slots of its host, and the sums that other hosts sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from hpcnn.comm.exchange.buffers import fold, fold_block
from hpcnn.comm.protocol import Array
from hpcnn.core.tree import Subtree, additions_below
from hpcnn.system.memory import aligned_empty

Addition = Callable[[], None]
Sum = Callable[[Array], None]
"""Writes a sum into an array."""


@dataclass(frozen=True)
class Fold:
    """Which slots belong to a subtree, and the order in which they are added."""

    slots: Sequence[int]
    order: Sequence[tuple[int, int]]

    @classmethod
    def below(cls, subtree: Subtree, subtrees: Sequence[Subtree]) -> Fold:
        """Return how the sum of `subtree` is made of slots for `subtrees`, left to right.

        >>> Fold.below((4, 8), [(2, 4), (4, 5), (5, 6), (6, 8)])
        Fold(slots=[1, 2, 3], order=[(0, 1), (0, 2)])
        """
        slots = [slot for slot, (lo, hi) in enumerate(subtrees) if subtree[0] <= lo and hi <= subtree[1]]
        return cls(slots, additions_below(subtree, [subtrees[slot] for slot in slots]))

    def take(self, arrays: Sequence[Array], part: slice) -> list[Array]:
        """Return a part of the arrays of these slots."""
        return [arrays[slot][part] for slot in self.slots]


@dataclass(frozen=True)
class Addends:
    """The slots that one rank adds up."""

    shards: int
    host: int
    """The number of the own host."""
    sent: Sequence[Sequence[Subtree]]
    """For each host, the subtrees whose sums it sends."""
    local_subtrees: Sequence[Subtree]
    """The subtrees of the own host's slots."""
    local_vectors: Sequence[Array]
    """These slots, whole."""

    @property
    def subtrees(self) -> list[Subtree]:
        """The subtrees of all slots, left to right: those of other hosts come as sums."""
        return [
            each for host, sent in enumerate(self.sent) for each in (self.local_subtrees if host == self.host else sent)
        ]

    def slots(self, start: int, stop: int, received: Sequence[Sequence[Array]]) -> list[Array]:
        """Return the slots in the order of `subtrees`, given the part of each that other hosts sent."""
        local = [vector[start:stop] for vector in self.local_vectors]
        return [slot for host, sent in enumerate(received) for slot in (local if host == self.host else sent)]


class Summation(Protocol):
    """Adds up the addends of one rank."""

    one_pass: bool
    """Whether it goes over each part of the slots only once."""

    def buffer(self, subtree: Subtree, size: int) -> Array:
        """Return room for `size` entries of the sum of a subtree, as another host sends it."""
        ...

    def relays(self, start: int, stop: int) -> Iterator[tuple[Addition | None, Array]]:
        """Yield, for each sum of these entries that this host sends, what makes it and where it is stored."""
        ...

    def part(self, start: int, stop: int, received: Sequence[Sequence[Array]]) -> Sum:
        """Return what sums entries of this rank's partition; `received` are those that each other host sent."""
        ...


class ExactSummation:
    """Adds in the type of the vectors, and rounds nothing else."""

    def __init__(self, addends: Addends) -> None:
        self._addends = addends
        self._whole = Fold.below((0, addends.shards), addends.subtrees)
        self.one_pass = len(self._whole.order) <= 1
        self._sent = [Fold.below(subtree, addends.local_subtrees) for subtree in addends.sent[addends.host]]

    def buffer(self, subtree: Subtree, size: int) -> Array:
        """Return room for the sum of a subtree."""
        return aligned_empty(size, self._addends.local_vectors[0].dtype)

    def relays(self, start: int, stop: int) -> Iterator[tuple[Addition | None, Array]]:
        """Yield what makes each sum to be sent."""
        for each in self._sent:
            yield relay(each, self._addends.local_vectors, slice(start, stop))

    def part(self, start: int, stop: int, received: Sequence[Sequence[Array]]) -> Sum:
        """Return what sums entries of this rank's partition."""
        return partial(fold_block, self._addends.slots(start, stop, received), self._whole.order)


def relay(fold_plan: Fold, vectors: Sequence[Array], part: slice) -> tuple[Addition | None, Array]:
    """Return what sums a part of some slots into the first of them, if there are several, and that part of it."""
    slots = fold_plan.take(vectors, part)
    return (partial(fold, slots, fold_plan.order, slots[0]) if fold_plan.order else None), slots[0]

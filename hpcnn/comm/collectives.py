"""Collectives built on those of a communicator: agree on errors, compare values, and sum over leaves in tree order."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from hpcnn.comm.protocol import Communicator
from hpcnn.core.tree import Subtree, additions_below, fold_leaves, maximal_subtrees, owned_leaves
from hpcnn.errors import HpcnnError, PeerError

T = TypeVar("T")
Sums = NDArray[np.float64]
Leaf = Callable[[int], Sums]
_Failure = tuple[int, str, str, int]
"""The rank, its host, the message and the exit code."""


def agree(comm: Communicator, action: Callable[[], T]) -> T:
    """Return ``action()``; if it raises an HpcnnError on any rank, raise on all of them.

    Every collective within `action` must go through a function of this module whose name ends with `_or_raise`, or
    that is built on one (as `TreeReduction` is), so that a rank that has failed meets the others at the next one.
    """
    try:
        result = action()
    except PeerError:
        raise
    except HpcnnError as error:
        _allreduce(comm, (comm.rank, comm.host, str(error), error.exit_code), None, _first)
        raise
    meet_or_raise(comm)
    return result


def allreduce_or_raise(comm: Communicator, value: T, merge: Callable[[T, T], T]) -> T:
    """Return the small values of all ranks, merged along a tree; see `Communicator.allreduce`.

    Raises:
        PeerError: some rank came to `agree` with an error instead.
    """
    failure, merged = _allreduce(comm, None, value, merge)
    if failure is not None:
        rank, host, message, exit_code = failure
        raise PeerError(f"rank {rank} on {host}: {message}", exit_code)
    return merged


def meet_or_raise(comm: Communicator) -> None:
    """Return once all ranks have come here.

    Raises:
        PeerError: some rank came to `agree` with an error instead.
    """
    allreduce_or_raise(comm, None, _first)


def gather_or_raise(comm: Communicator, value: Any) -> list[Any]:
    """Return every rank's small `value`; as long as there are ranks, so for what cannot be merged.

    Raises:
        PeerError: some rank came to `agree` with an error instead.
    """
    meet_or_raise(comm)
    return comm.allgather(value)


def first_or_raise(comm: Communicator, value: T | None) -> T | None:
    """Return the `value` of the first rank where it is not None; None if there is none.

    Raises:
        PeerError: some rank came to `agree` with an error instead.
    """
    return allreduce_or_raise(comm, value, _first)


@dataclass(frozen=True)
class Variant(Generic[T]):
    """A value, and the first rank that has it."""

    value: T
    rank: int
    host: str


def variants_or_raise(
    comm: Communicator, value: T | None, same: Callable[[T, T], bool] = operator.eq
) -> list[Variant[T]]:
    """Return the different values of all ranks, each with the first rank that has it; None counts as no value.

    Raises:
        PeerError: some rank came to `agree` with an error instead.
    """

    def merge(left: list[Variant[T]], right: list[Variant[T]]) -> list[Variant[T]]:
        return left + [new for new in right if not any(same(old.value, new.value) for old in left)]

    own = [] if value is None else [Variant(value, comm.rank, comm.host)]
    return allreduce_or_raise(comm, own, merge)


def _allreduce(
    comm: Communicator, failure: _Failure | None, value: T, merge: Callable[[T, T], T]
) -> tuple[_Failure | None, T]:
    def both(left: tuple[_Failure | None, T], right: tuple[_Failure | None, T]) -> tuple[_Failure | None, T]:
        if left[0] is not None:
            return left
        # A rank that has failed knows no more than its error, and merges nothing.
        return right if right[0] is not None else (None, merge(left[1], right[1]))

    return comm.allreduce((failure, value), both)


def _first(left: T | None, right: T | None) -> T | None:
    return right if left is None else left


class TreeReduction:
    """Sums and maxima over leaves, each leaf computed by one rank, the result the same bits on any number of ranks."""

    def __init__(self, comm: Communicator) -> None:
        self._comm = comm

    def sum(self, n_leaves: int, leaf: Leaf) -> Sums:
        """Return the sum of ``leaf(i)`` over all i, in tree order. `n_leaves` must be positive and equal on all ranks.

        Leaves are float64 vectors of one length.
        """
        assert n_leaves > 0
        owned = owned_leaves(n_leaves, self._comm.size, self._comm.rank)
        own = {subtree: fold_leaves(subtree, leaf, np.add) for subtree in maximal_subtrees(n_leaves, owned)}
        sums = allreduce_or_raise(self._comm, own, lambda left, right: _merged(n_leaves, {**left, **right}))
        total: Sums = sums[0, n_leaves]
        return total

    def max(self, n_leaves: int, leaf: Leaf) -> Sums:
        """Return the elementwise maximum of ``leaf(i)`` over all i."""

        def larger(left: Sums | None, right: Sums | None) -> Sums | None:
            if left is None or right is None:
                return _first(left, right)
            return np.maximum(left, right)

        lo, hi = owned_leaves(n_leaves, self._comm.size, self._comm.rank)
        leaves = [leaf(i) for i in range(lo, hi)]
        own: Sums | None = np.max(leaves, axis=0) if leaves else None
        result = allreduce_or_raise(self._comm, own, larger)
        assert result is not None
        return result


def _merged(leaves: int, sums: Mapping[Subtree, Sums]) -> dict[Subtree, Sums]:
    """Return the sums of neighbouring subtrees, left to right, as sums of as few as there can be."""
    if not sums:
        return {}
    subtrees = list(sums)
    result = {}
    for whole in maximal_subtrees(leaves, (subtrees[0][0], subtrees[-1][1])):
        slots = [np.array(sums[subtree]) for subtree in subtrees]
        for left, right in additions_below(whole, subtrees):
            slots[left] += slots[right]
        result[whole] = slots[subtrees.index(next(each for each in subtrees if each[0] == whole[0]))]
    return result

"""Collectives built on those of a communicator: agree on errors, and sum values over leaves in tree order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hpcnn.comm.protocol import Communicator
from hpcnn.core.tree import additions, fold_leaves, maximal_subtrees, owned_leaves
from hpcnn.errors import HpcnnError, PeerError

T = TypeVar("T")
Sums = NDArray[np.float64]
Leaf = Callable[[int], Sums]


def gather_or_raise(comm: Communicator, value: Any) -> list[Any]:
    """Return every rank's small `value`, or raise PeerError if some rank came to `agree` with an error instead."""
    replies = comm.allgather((None, value))
    for rank, (error, _) in enumerate(replies):
        if error is not None:
            message, exit_code, host = error
            raise PeerError(f"rank {rank} on {host}: {message}", exit_code)
    return [reply for _, reply in replies]


def agree(comm: Communicator, action: Callable[[], T]) -> T:
    """Return ``action()``; if it raises an HpcnnError on any rank, raise on all of them.

    Every collective within `action` must go through `gather_or_raise` (as `TreeReduction` does), so that a rank that
    has failed meets the others at the next one.
    """
    try:
        result = action()
    except PeerError:
        raise
    except HpcnnError as error:
        comm.allgather(((str(error), error.exit_code, comm.host), None))
        raise
    gather_or_raise(comm, None)
    return result


class TreeReduction:
    """Sums and maxima over leaves, each leaf computed by one rank, the result the same bits on any number of ranks."""

    def __init__(self, comm: Communicator) -> None:
        self._comm = comm

    def sum(self, n_leaves: int, leaf: Leaf) -> Sums:
        """Return the sum of ``leaf(i)`` over all i, in tree order. `n_leaves` must be positive and equal on all ranks.

        Leaves are float64 vectors of one length.
        """
        comm = self._comm
        subtrees = [maximal_subtrees(n_leaves, owned_leaves(n_leaves, comm.size, rank)) for rank in range(comm.size)]
        own = {subtree: fold_leaves(subtree, leaf, np.add) for subtree in subtrees[comm.rank]}
        parts = [part for sums in gather_or_raise(comm, own) for part in sums.values()]
        slots: list[Sums] = [part.copy() for part in parts]
        for left, right in additions(n_leaves, [subtree for per_rank in subtrees for subtree in per_rank]):
            slots[left] += slots[right]
        return slots[0]

    def max(self, n_leaves: int, leaf: Leaf) -> Sums:
        """Return the elementwise maximum of ``leaf(i)`` over all i."""
        lo, hi = owned_leaves(n_leaves, self._comm.size, self._comm.rank)
        own = [leaf(i) for i in range(lo, hi)]
        everyone = gather_or_raise(self._comm, np.max(own, axis=0) if own else None)
        result: Sums = np.max([part for part in everyone if part is not None], axis=0)
        return result

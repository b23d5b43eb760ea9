"""Sums over all samples of a batch, wherever they are, in the middle of a pass: those of batch normalisation."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

import numpy as np

from hpcnn.comm.protocol import Array, Communicator, ReplicatedExchange
from hpcnn.core.activity import Activity
from hpcnn.core.tree import fold_rows
from hpcnn.nn.layer import BatchSum

T = TypeVar("T")
AddRows = Callable[[Array, Array], None]
"""``(rows, totals) -> None``: sum the rows of all ranks, one for each gradient shard, along the tree. Collective."""


def sum_alone(rows: Array, totals: Array) -> None:
    """Sum the rows of a rank that is alone."""
    totals[...] = fold_rows(rows)


class BatchSums:
    """See `AddRows`: by an exchange for each length of rows, made when it is first needed.

    Args:
        comm: the ranks.
        shards: how many rows all ranks have together.
    """

    def __init__(self, comm: Communicator, shards: int) -> None:
        self._comm, self._shards = comm, shards
        self._exchanges: dict[int, ReplicatedExchange] = {}

    def __call__(self, rows: Array, totals: Array) -> None:
        """Sum the rows of all ranks."""
        exchange = self._exchanges.get(totals.size)
        if exchange is None:
            exchange = self._comm.exchange(self._shards, totals.size, np.float64, 0)
            exchange.activity = Activity()
            self._exchanges[totals.size] = exchange
        first = exchange.contributions[0].subtree[0]
        for contribution in exchange.contributions:
            start, stop = contribution.subtree
            contribution.vector[...] = fold_rows(rows[start - first : stop - first])
        exchange.allreduce()
        totals[...] = exchange.vector


def in_step(passes: Sequence[Generator[BatchSum, None, T]], add: AddRows) -> list[T]:
    """Run the passes of all shards of a rank, which stop at the same places, and return their results."""
    results: list[T] = []
    while not results:
        asked: list[BatchSum] = []
        for each in passes:
            try:
                asked.append(next(each))
            except StopIteration as end:
                results.append(end.value)
        if not asked:
            break
        assert not results, "the passes of shards do not stop at the same places"
        if asked[0].synchronized:
            totals = asked[0].totals
            add(np.concatenate([one.sums for one in asked]), totals)
            for one in asked[1:]:
                one.totals[...] = totals
        for one in asked:
            one.done()
    return results

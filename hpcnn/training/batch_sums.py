"""What a pass needs of all samples of a batch, wherever they are: sums of batch normalisation, rows of embeddings."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from hpcnn.comm.protocol import Array, Communicator, ReplicatedExchange
from hpcnn.core.activity import Activity
from hpcnn.core.tree import fold_rows
from hpcnn.nn.layer import BatchRows, BatchSum
from hpcnn.nn.passes import Asked

T = TypeVar("T")


class AddRows(Protocol):
    """What ranks do together in the middle of a pass. Collective."""

    def __call__(self, rows: Array, totals: Array) -> None:
        """Write the sum of the rows of all ranks, one for each gradient shard, along the tree to `totals`."""

    def gather(self, own: Array, rows: Array, first: int) -> None:
        """Write the rows of all ranks to `rows`; `own` are those from `first` on. No zero becomes negative."""


class _Alone:
    """See `AddRows`: for a rank that is alone."""

    def __call__(self, rows: Array, totals: Array) -> None:
        totals[...] = fold_rows(rows)

    def gather(self, own: Array, rows: Array, first: int) -> None:
        np.add(own, 0, out=rows[first : first + len(own)])


sum_alone = _Alone()
"""Sums the rows of a rank that is alone."""


class BatchSums:
    """See `AddRows`: by an exchange for each length of rows, made when it is first needed.

    Args:
        comm: the ranks.
        shards: how many rows all ranks have together.
    """

    def __init__(self, comm: Communicator, shards: int) -> None:
        self._comm, self._shards = comm, shards
        self._exchanges: dict[tuple[int, np.dtype[Any]], ReplicatedExchange] = {}

    def __call__(self, rows: Array, totals: Array) -> None:
        """Sum the rows of all ranks."""
        exchange = self._exchange(totals)
        first = exchange.contributions[0].subtree[0]
        for contribution in exchange.contributions:
            start, stop = contribution.subtree
            contribution.vector[...] = fold_rows(rows[start - first : stop - first])
        exchange.allreduce()
        totals[...] = exchange.vector

    def gather(self, own: Array, rows: Array, first: int) -> None:
        """Add up rows that are 0 on all ranks but one, which is exact."""
        exchange, columns = self._exchange(rows), rows.shape[1]
        for contribution in exchange.contributions:
            contribution.vector.fill(0)
        part = exchange.contributions[0].vector[first * columns : (first + len(own)) * columns]
        np.add(own.reshape(-1), 0, out=part)
        exchange.allreduce()
        rows.reshape(-1)[...] = exchange.vector

    def _exchange(self, into: Array) -> ReplicatedExchange:
        key = into.size, into.dtype  # not its name, which takes longer than all else
        exchange = self._exchanges.get(key)
        if exchange is None:
            exchange = self._comm.exchange(self._shards, into.size, into.dtype, 0)
            exchange.activity = Activity()
            self._exchanges[key] = exchange
        return exchange


def samples_of_batch(add: AddRows, starts: Sequence[int]) -> int:
    """Return how many samples the batch has of which a rank has the shards that begin at `starts`. Collective."""
    total = np.zeros(1)
    add(np.diff(starts).astype(np.float64)[:, np.newaxis], total)
    return int(total[0])


def in_step(passes: Sequence[Generator[Asked, None, T]], add: AddRows) -> list[T]:
    """Run the passes of all shards of a rank, which stop at the same places, and return their results."""
    results: list[T] = []
    while not results:
        asked: list[Asked] = []
        for each in passes:
            try:
                asked.append(next(each))
            except StopIteration as end:
                results.append(end.value)
        if not asked:
            break
        assert not results, "the passes of shards do not stop at the same places"
        rows = [one for one in asked if isinstance(one, BatchRows)]
        sums = [one for one in asked if isinstance(one, BatchSum)]
        assert not (rows and sums), "the passes of shards do not stop for the same"
        if rows:
            _gather_in_step(rows, add)
        elif sums[0].synchronized:
            totals = sums[0].totals
            add(np.concatenate([one.sums for one in sums]), totals)
            for one in sums[1:]:
                one.totals[...] = totals
        for one in sums:
            one.done()
    return results


def _gather_in_step(asked: Sequence[BatchRows], add: AddRows) -> None:
    everyone = asked[0].rows
    add.gather(np.concatenate([one.own for one in asked]), everyone, asked[0].first)
    for one in asked[1:]:
        one.rows[...] = everyone

"""Shared by the tests of data: taking rows, and ranks as threads that reduce over leaves."""

from __future__ import annotations

import threading

import numpy as np

from hpcnn.core.tree import owned_leaves
from hpcnn.data.readers.hdf5 import read_variables
from hpcnn.errors import HpcnnError
from tests.timing import WAIT_S


def take(rows, dtype=None, indices=None):
    """Return rows (all, or `indices`) as a new array."""
    indices = np.arange(rows.shape[0]) if indices is None else np.asarray(indices, np.int64)
    out = np.empty((len(indices), *rows.shape[1:]), rows.dtype if dtype is None else dtype)
    rows.take(indices, out)
    return out


def read_datasets(path, *keys):
    """Return the rows of data sets of an HDF5 file."""
    return tuple(variable.rows for variable in read_variables(path, *keys))


class ThreadReduction:
    """One rank of several: computes the subtrees whose leaves are all its own, and meets the others at a barrier."""

    def __init__(self, rank, size, board, barrier):
        self.rank, self.size, self.board, self.barrier = rank, size, board, barrier
        self.leaves = []

    def sum(self, n_leaves, leaf):
        return self._reduce(np.add, n_leaves, leaf)

    def max(self, n_leaves, leaf):
        return self._reduce(np.maximum, n_leaves, leaf)

    def _reduce(self, combine, n_leaves, leaf):
        first, last = owned_leaves(n_leaves, self.size, self.rank)
        self.leaves.append((n_leaves, first, last))

        def own(lo, hi):
            """Deposit the maximal subtrees within [first, last)."""
            if hi <= first or last <= lo:
                return
            if first <= lo and hi <= last:
                self.board[lo, hi] = fold(lo, hi)
                return
            own(lo, (lo + hi) // 2)
            own((lo + hi) // 2, hi)

        def fold(lo, hi):
            if (lo, hi) in self.board:
                return self.board[lo, hi]
            return leaf(lo) if hi - lo == 1 else combine(fold(lo, (lo + hi) // 2), fold((lo + hi) // 2, hi))

        own(0, n_leaves)
        self.barrier.wait(WAIT_S)
        total = np.array(fold(0, n_leaves))
        self.barrier.wait(WAIT_S)
        if self.rank == 0:
            self.board.clear()
        self.barrier.wait(WAIT_S)
        return total


def on_ranks(size, work):
    """Return what ``work(reduction)`` returns, or raises, on each of `size` ranks."""
    board, barrier, results = {}, threading.Barrier(size), [None] * size

    def run(rank):
        try:
            results[rank] = work(ThreadReduction(rank, size, board, barrier))
        except Exception as error:
            results[rank] = error
            if isinstance(error, HpcnnError):  # what all ranks raise alike
                return
            barrier.abort()
            raise

    threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive(), "a rank hangs"
    return results

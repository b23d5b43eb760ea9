"""Statistics of rows of data, read once, block by block: of each entry, or over all entries where there are many."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcnn.core.tree import fold_leaves
from hpcnn.data.reduction import Leaf
from hpcnn.data.rows import Array, Rows
from hpcnn.data.sampler import Indices

MOST_ENTRIES = 2**25
"""Most numbers of one array that are looked at."""
WIDE = 2**16
"""Samples of more entries than this have statistics over all entries alone."""
MOST_TARGETS = 16
"""Most entries of the targets that inputs are compared with."""
_RUN = 64
"""Neighbouring rows that are looked at together: those of one chunk of a file cost little more than one of them."""
_BLOCK_ENTRIES = 2**18
_LEAVES = 512
"""Most parts of the data that checks and scaling are computed from."""


class SampledReduction:
    """Sums and maxima estimated from evenly spaced leaves, where there are many; see `hpcnn.data.reduction`."""

    def sum(self, n_leaves: int, leaf: Leaf) -> NDArray[np.float64]:
        """Return the sum over the chosen leaves, scaled up to all."""
        chosen = min(n_leaves, _LEAVES)
        total = fold_leaves((0, chosen), lambda i: leaf(i * n_leaves // chosen), np.add)
        return total if chosen == n_leaves else np.asarray(total * (n_leaves / chosen))

    def max(self, n_leaves: int, leaf: Leaf) -> NDArray[np.float64]:
        """Return the elementwise maximum over the chosen leaves."""
        chosen = min(n_leaves, _LEAVES)
        return fold_leaves((0, chosen), lambda i: leaf(i * n_leaves // chosen), np.maximum)


def chosen_rows(rows: Rows, most_rows: int) -> Indices:
    """Return the rows to look at: all, or evenly spaced runs of neighbours.

    >>> from hpcnn.data.rows import ArrayRows
    >>> chosen_rows(ArrayRows(np.zeros((1000, 2))), 128).tolist() == [*range(64), *range(936, 1000)]
    True
    """
    n = rows.shape[0]
    most = max(1, min(most_rows, MOST_ENTRIES // max(1, math.prod(rows.shape[1:]))))
    if n <= most:
        return np.arange(n, dtype=np.int64)
    length = min(_RUN, most)
    starts = np.linspace(0, n - length, max(1, most // length)).astype(np.int64)
    return np.unique(starts[:, None] + np.arange(length))


def blocks(x: Rows, y: Rows, chosen: Indices) -> Iterator[tuple[Array, Array]]:
    """Yield the chosen rows of two arrays as float64, each (k, entries), block by block."""
    sizes = [math.prod(rows.shape[1:]) for rows in (x, y)]
    step = max(1, _BLOCK_ENTRIES // max(1, *sizes))
    for start in range(0, len(chosen), step):
        yield flat_rows(x, chosen[start : start + step]), flat_rows(y, chosen[start : start + step])


def flat_rows(rows: Rows, chosen: Indices) -> Array:
    """Return rows as float64, (k, entries)."""
    values = np.empty((len(chosen), *rows.shape[1:]), np.float64)
    rows.take(chosen, values)
    return values.reshape(len(chosen), -1)


@dataclass(frozen=True, eq=False)
class Added:
    """Rows that were added to `Moments`: how far from their mean, and how far that is from the mean before."""

    apart: Array
    shift: Array


@dataclass(eq=False)
class Moments:
    """Statistics of each entry over its finite values, shape (entries,)."""

    count: NDArray[np.int64]
    missing: NDArray[np.int64]
    infinite: NDArray[np.int64]
    low: Array
    high: Array
    mean: Array
    squares: Array
    """Sums of squared differences from the mean."""

    @classmethod
    def empty(cls, entries: int) -> Moments:
        """Return the statistics of no rows."""
        counts, numbers = np.zeros((3, entries), np.int64), np.zeros((2, entries))
        infinite = np.full(entries, np.inf)
        return cls(counts[0], counts[1], counts[2], infinite, -infinite, numbers[0], numbers[1])

    def add(self, values: Array) -> Added:
        """Add rows (k, entries). Two sets are merged after Chan, Golub and LeVeque (1983)."""
        finite = np.isfinite(values)
        count = finite.sum(axis=0)
        mean = np.where(finite, values, 0.0).sum(axis=0) / np.maximum(count, 1)
        apart = np.where(finite, values - mean, 0.0)
        both, shift = np.maximum(self.count + count, 1), np.where(count > 0, mean - self.mean, 0.0)
        self.squares = self.squares + np.square(apart).sum(axis=0) + np.square(shift) * (self.count * count / both)
        self.mean = self.mean + shift * (count / both)
        self.low = np.minimum(self.low, np.where(finite, values, np.inf).min(axis=0, initial=np.inf))
        self.high = np.maximum(self.high, np.where(finite, values, -np.inf).max(axis=0, initial=-np.inf))
        missing = np.isnan(values).sum(axis=0)
        self.count = self.count + count
        self.missing = self.missing + missing
        self.infinite = self.infinite + (len(values) - count - missing)
        return Added(apart, shift)

    @property
    def deviation(self) -> Array:
        """The standard deviation."""
        return np.sqrt(self.squares / np.maximum(self.count, 1))

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Whether all values are one."""
        return np.asarray((self.low == self.high) & (self.missing + self.infinite == 0))

    def overall(self) -> Moments:
        """Return the statistics over all entries, as those of one."""
        count = self.count.sum(keepdims=True)
        mean = (self.mean * self.count).sum(keepdims=True) / np.maximum(count, 1)
        squares = (self.squares + self.count * np.square(self.mean - mean)).sum(keepdims=True)
        return Moments(
            count,
            self.missing.sum(keepdims=True),
            self.infinite.sum(keepdims=True),
            self.low.min(keepdims=True),
            self.high.max(keepdims=True),
            mean,
            squares,
        )


@dataclass(eq=False)
class Measured:
    """What was found in some rows of inputs and targets."""

    x: Moments
    y: Moments
    correlation: Array | None
    """(inputs, targets); None where there are too many of them."""
    identical: NDArray[np.bool_] | None
    """Whether an input is a target, value by value; likewise."""
    hashes: list[bytes]
    """Of the inputs of each sample."""
    target_hashes: list[bytes]

    @property
    def looked_at(self) -> int:
        """The number of samples."""
        return len(self.hashes)


def measure(x: Rows, y: Rows, chosen: Indices) -> Measured:
    """Return the statistics of the chosen samples of inputs and targets."""
    entries, targets = math.prod(x.shape[1:]), math.prod(y.shape[1:])
    wide, many = entries > WIDE, targets > MOST_TARGETS
    over_x, over_y = Moments.empty(1 if wide else entries), Moments.empty(1 if many else targets)
    compared = None if wide or many else _Compared(entries, targets)
    hashes: list[bytes] = []
    target_hashes: list[bytes] = []
    for inputs, wanted in blocks(x, y, chosen):
        hashes += map(_digest, inputs + 0.0)  # -0.0 becomes 0.0
        target_hashes += map(_digest, wanted + 0.0)
        before = over_x.count
        with np.errstate(over="ignore", invalid="ignore"):
            a = over_x.add(inputs.reshape(-1, 1) if wide else inputs)
            b = over_y.add(wanted.reshape(-1, 1) if many else wanted)
            if compared is not None:
                compared.add(inputs, wanted, a, b, before * len(inputs) / np.maximum(before + len(inputs), 1))
    correlation = None if compared is None else compared.correlation(over_x, over_y)
    identical = None if compared is None or not len(chosen) else compared.identical
    return Measured(over_x, over_y, correlation, identical, hashes, target_hashes)


def moments_of(rows: Rows, chosen: Indices) -> Moments:
    """Return the statistics of the chosen rows of one array."""
    entries = math.prod(rows.shape[1:])
    wide = entries > WIDE
    found, step = Moments.empty(1 if wide else entries), max(1, _BLOCK_ENTRIES // max(1, entries))
    for start in range(0, len(chosen), step):
        values = flat_rows(rows, chosen[start : start + step])
        with np.errstate(over="ignore", invalid="ignore"):
            found.add(values.reshape(-1, 1) if wide else values)
    return found


class _Compared:
    """How alike each input and each target are."""

    def __init__(self, entries: int, targets: int) -> None:
        self.identical = np.ones((entries, targets), np.bool_)
        self._products = np.zeros((entries, targets))

    def add(self, inputs: Array, wanted: Array, a: Added, b: Added, weight: Array) -> None:
        self._products += a.apart.T @ b.apart + np.outer(a.shift * weight, b.shift)
        for target in range(wanted.shape[1]):
            self.identical[:, target] &= (inputs == wanted[:, target : target + 1]).all(axis=0)

    def correlation(self, x: Moments, y: Moments) -> Array:
        spread = np.sqrt(np.outer(x.squares, y.squares))
        return np.asarray(np.divide(self._products, spread, out=np.zeros_like(spread), where=spread > 0))


def _digest(row: Array) -> bytes:
    return hashlib.blake2b(row.tobytes(), digest_size=12).digest()

"""Sparse linear maps along one axis: padding, cropping, repeating and interpolating are nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.nn.workspace import Array


@dataclass(frozen=True, eq=False)
class AxisMap:
    """y[i] = sum over t in [start[i], start[i + 1]) of weight[t] x[index[t]], for x of `length` entries.

    >>> shifted(2, 1, 0).start.tolist(), shifted(2, 1, 0).index.tolist()
    ([0, 0, 1, 2], [0, 1])
    """

    length: int
    start: Array
    index: Array
    weight: Array
    _typed: dict[Any, Array] = field(default_factory=dict, repr=False)

    @property
    def rows(self) -> int:
        """The length of y."""
        return len(self.start) - 1

    @cached_property
    def transposed(self) -> AxisMap:
        """The map of the pass back. Terms of a row are in the order of y."""
        row = np.repeat(np.arange(self.rows), np.diff(self.start))
        order = np.argsort(self.index, kind="stable")
        start = np.searchsorted(self.index[order], np.arange(self.length + 1))
        return AxisMap(self.rows, start, row[order], self.weight[order])

    def weights(self, dtype: DTypeLike) -> Array:
        """Return the weights in another type, the same array each time."""
        dtype = np.dtype(dtype)
        if dtype not in self._typed:
            self._typed[dtype] = self.weight.astype(dtype)
        return self._typed[dtype]

    def matrix(self) -> Array:
        """Return the map as a matrix of float64, shape (rows, length)."""
        matrix = np.zeros((self.rows, self.length))
        np.add.at(matrix, (np.repeat(np.arange(self.rows), np.diff(self.start)), self.index), self.weight)
        return matrix

    @cached_property
    def ranks(self) -> list[tuple[Array, Array, Array]]:
        """The first term of each row, the second, ...: its index, its weight, and the rows that have no such term."""
        counts = np.diff(self.start)
        found = []
        for rank in range(counts.max(initial=0)):
            has = counts > rank
            term = np.where(has, self.start[:-1] + rank, 0)
            found.append((self.index[term], np.where(has, self.weight[term], 0.0), np.flatnonzero(~has)))
        return found


AxisMaps = Sequence[tuple[int, AxisMap]]
"""Maps with their axes, counted with that of the samples, which is 0: one after the other."""


def _of_single(length: int, index: Array, kept: Array) -> AxisMap:
    """Return the map whose rows copy `index` where `kept`, and are 0 elsewhere."""
    start = np.concatenate([[0], np.cumsum(kept)])
    return AxisMap(length, start, index[kept], np.ones(int(start[-1])))


@lru_cache(maxsize=256)
def shifted(length: int, before: int, after: int) -> AxisMap:
    """Return the map that puts zeros before and after, or takes entries away where a number is negative."""
    index = np.arange(-before, length + after)
    return _of_single(length, index, (index >= 0) & (index < length))


@lru_cache(maxsize=256)
def repeated(length: int, times: int) -> AxisMap:
    """Return the map that repeats each entry."""
    index = np.repeat(np.arange(length), times)
    return _of_single(length, index, np.ones(len(index), bool))


@lru_cache(maxsize=256)
def interpolated(length: int, times: int) -> AxisMap:
    """Return the map to `times` as many entries, linear between centres, constant beyond the outermost ones."""
    place = (np.arange(length * times) + 0.5) / times - 0.5
    share = place - np.floor(place)
    lower, upper = np.maximum(np.floor(place), 0).astype(int), np.minimum(np.ceil(place), length - 1).astype(int)
    start, index, weight = [0], list[int](), list[float]()
    for low, high, part in zip(lower.tolist(), upper.tolist(), share.tolist(), strict=True):
        index += [low] if low == high else [low, high]
        weight += [1.0] if low == high else [1 - part, part]
        start.append(len(index))
    return AxisMap(length, np.array(start), np.array(index), np.array(weight))

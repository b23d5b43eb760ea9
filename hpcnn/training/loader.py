"""From samples on disk or in memory to arrays for the model: gradient shards to train on, pieces to evaluate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hpcnn.data.rows import Rows
from hpcnn.data.sampler import Indices, batch_bounds, epoch_order, shard_starts, steps_per_epoch
from hpcnn.errors import DataError
from hpcnn.nn.network import same_sample_shape
from hpcnn.system.memory import aligned_empty

Array = NDArray[Any]


class _Buffer:
    """Memory for a batch of rows, which each `take` overwrites."""

    def __init__(self, rows: Rows, dtype: DTypeLike, shape: tuple[int, ...]) -> None:
        if not same_sample_shape(rows.shape[1:], shape):
            raise DataError(
                f"the data have shape {rows.shape[1:]} a sample, but the model takes {shape}. "
                "Give data of that shape, or another model."
            )
        self.rows = rows
        self._shape = shape
        self._memory = aligned_empty((0, *rows.shape[1:]), dtype)
        self._views: dict[int, tuple[Array, Array]] = {}

    def take(self, indices: Indices) -> Array:
        """Return these rows: for one number of them the same array each time, as long as there are no more."""
        n = len(indices)
        if n not in self._views:
            if len(self._memory) < n:
                self._memory = aligned_empty((n, *self._memory.shape[1:]), self._memory.dtype)
                self._views.clear()
            self._views[n] = self._memory[:n], self._memory[:n].reshape(n, *self._shape)
        out, view = self._views[n]
        self.rows.take(indices, out)
        return view


def _target_buffer(y: Rows, dtype: DTypeLike) -> _Buffer:
    labels = np.issubdtype(y.dtype, np.integer)
    return _Buffer(y, np.int64 if labels else dtype, y.shape[1:])


class ShardLoader:
    """The training samples, cut into batches and those into gradient shards: each sample once an epoch.

    `on_epoch` is told each epoch before its samples are taken.
    """

    def __init__(
        self,
        x: Rows,
        y: Rows,
        *,
        batch_size: int,
        shards: int,
        seed: int,
        shuffle: bool,
        input_shape: tuple[int, ...],
        dtype: DTypeLike,
        arithmetic: str = "numpy",
        on_epoch: Callable[[int], object] = bool,
    ) -> None:
        self.samples = x.shape[0]
        self._on_epoch = on_epoch
        self.steps_per_epoch = steps_per_epoch(self.samples, batch_size)
        self.batch_size, self._shards = batch_size, shards
        self._seed, self._shuffle, self._arithmetic = seed, shuffle, arithmetic
        self._x, self._y = _Buffer(x, dtype, input_shape), _target_buffer(y, dtype)
        self._order = np.arange(0)
        self._starts: dict[tuple[int, int, int], tuple[int, ...]] = {}

    def start_epoch(self, epoch: int) -> None:
        """Fix the order of samples of `epoch`."""
        self._on_epoch(epoch)
        self._order = epoch_order(self.samples, self._seed, epoch, shuffle=self._shuffle, arithmetic=self._arithmetic)

    def take_batch(self, x: Rows, y: Rows) -> None:
        """Take the shards from these samples from now on, all of them one batch in their order, of the same shapes."""
        if x.shape[0] != self.batch_size:
            self._starts.clear()  # else it would grow with every size that is met
        self.samples = self.batch_size = x.shape[0]
        self._x.rows, self._y.rows = x, y
        self._order = np.arange(self.samples, dtype=np.int64)

    def shards(self, step: int, first: int, stop: int) -> tuple[Array, Array, Sequence[int]]:
        """Return inputs and targets of the shards [first, stop) of batch `step` of the epoch; see `LoadShards`."""
        begin, end = batch_bounds(self.samples, self.batch_size, step)
        key = end - begin, first, stop
        starts = self._starts.get(key)
        if starts is None:
            starts = self._starts[key] = shard_starts(end - begin, self._shards, first, stop)
        indices = self._order[begin + starts[0] : begin + starts[-1]]
        return self._x.take(indices), self._y.take(indices), starts


class PieceLoader:
    """Samples in their own order, in pieces of one size: what evaluation and prediction go through."""

    def __init__(
        self, x: Rows, y: Rows | None, *, piece_size: int, input_shape: tuple[int, ...], dtype: DTypeLike
    ) -> None:
        self.samples = x.shape[0]
        self.pieces = steps_per_epoch(self.samples, piece_size)
        self._piece_size = piece_size
        self._x = _Buffer(x, dtype, input_shape)
        self._y = None if y is None else _target_buffer(y, dtype)

    def inputs(self, i: int) -> Array:
        """Return the inputs of piece `i`, valid until the next call."""
        return self._x.take(self._indices(i))

    def piece(self, i: int) -> tuple[Array, Array]:
        """Return inputs and targets of piece `i`, valid until the next call."""
        assert self._y is not None
        return self.inputs(i), self._y.take(self._indices(i))

    def _indices(self, i: int) -> Indices:
        return np.arange(*batch_bounds(self.samples, self._piece_size, i), dtype=np.int64)

"""From samples on disk or in memory to arrays for the model: gradient shards to train on, pieces to evaluate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hpcnn.data.rows import Rows
from hpcnn.data.sampler import (
    Indices,
    WindowOrder,
    batch_bounds,
    epoch_order,
    shard_starts,
    steps_per_epoch,
    window_order,
)
from hpcnn.errors import DataError
from hpcnn.nn.network import same_sample_shape
from hpcnn.system.denormals import FlushDenormals
from hpcnn.system.memory import aligned_empty
from hpcnn.training.gradient_pass import Shards
from hpcnn.training.read_ahead import ReadAhead, Reading
from hpcnn.training.windows import Windows

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Order:
    """The order of the samples in each epoch: a function of seed and epoch."""

    seed: int
    shuffle: bool
    arithmetic: str = "numpy"
    chunk_of: Indices | None = None
    """The chunk of each sample, where they are shuffled within windows of chunks."""
    window_chunks: int = 1

    def samples(self, n: int, epoch: int) -> Indices:
        """Return n samples in order."""
        return epoch_order(n, self.seed, epoch, shuffle=self.shuffle, arithmetic=self.arithmetic)

    def windows(self, epoch: int) -> WindowOrder | None:
        """Return the samples in the order of windows, where that is what is asked for."""
        if self.chunk_of is None or not self.shuffle:
            return None
        return window_order(self.chunk_of, self.window_chunks, self.seed, epoch, arithmetic=self.arithmetic)


@dataclass(frozen=True, eq=False)
class Reads:
    """How batches are read. It changes no result."""

    prefetch: int = 0
    """Batches that are read ahead, on a thread."""
    windows: Windows | None = None
    """Where rows that are decoded in chunks are taken from."""
    beat: Callable[[], object] = bool
    """Called when a long wait makes progress."""


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
        out, view = self.room(len(indices))
        self.rows.take(indices, out)
        return view

    def copy(self, rows: Array) -> Array:
        """Return a copy of rows that were taken; see `take`."""
        out, view = self.room(len(rows))
        np.copyto(out, rows)
        return view

    def room(self, n: int) -> tuple[Array, Array]:
        """Return memory for n rows, as they are stored and as the model takes them."""
        if n not in self._views:
            if len(self._memory) < n:
                self._memory = aligned_empty((n, *self._memory.shape[1:]), self._memory.dtype)
                self._views.clear()
            self._views[n] = self._memory[:n], self._memory[:n].reshape(n, *self._shape)
        return self._views[n]

    def like(self, n: int) -> Array:
        """Return new memory for n rows as they are stored."""
        return aligned_empty((n, *self._memory.shape[1:]), self._memory.dtype)


@dataclass
class _Batch:
    """The samples of one rank in a batch that is read ahead."""

    arrays: list[Array]
    """Inputs, targets, and weights where there are some."""
    n: int = 0


def _weight_buffer(weights: Rows | None, dtype: DTypeLike) -> list[_Buffer]:
    return [] if weights is None else [_Buffer(weights, dtype, ())]


def _target_buffer(y: Rows, dtype: DTypeLike) -> _Buffer:
    labels = np.issubdtype(y.dtype, np.integer)
    return _Buffer(y, np.int64 if labels else dtype, y.shape[1:])


class ShardLoader:
    """The training samples, cut into batches and those into gradient shards: each sample once an epoch.

    `on_epoch` is told each epoch before its samples are taken. Where batches are read ahead, `close` ends the thread
    that does it; an epoch may be begun afterwards.
    """

    def __init__(
        self,
        x: Rows,
        y: Rows,
        *,
        batch_size: int,
        shards: int,
        order: Order,
        input_shape: tuple[int, ...],
        dtype: DTypeLike,
        reads: Reads | None = None,
        on_epoch: Callable[[int], object] = bool,
        weights: Rows | None = None,
    ) -> None:
        self.samples = x.shape[0]
        self._on_epoch = on_epoch
        self.steps_per_epoch = steps_per_epoch(self.samples, batch_size)
        self.batch_size, self._shards = batch_size, shards
        self._order_of, self._reads = order, reads or Reads()
        self._buffers = [_Buffer(x, dtype, input_shape), _target_buffer(y, dtype), *_weight_buffer(weights, dtype)]
        self._order = np.arange(0)
        self._starts: dict[tuple[int, int, int], tuple[int, ...]] = {}
        self._owned: tuple[int, int] | None = None
        self._ahead: ReadAhead[_Batch] | None = None
        self._held = -1
        """The batch that is in memory, where batches are read ahead."""

    def start_epoch(self, epoch: int, step: int = 0, owned: tuple[int, int] | None = None) -> None:
        """Fix the order of samples of `epoch`, which goes on with batch `step`.

        `owned` are the first of this rank's gradient shards and the one after the last: they may be read ahead.
        """
        self.close()
        self._on_epoch(epoch)
        windows, order = self._reads.windows, self._order_of.windows(epoch)
        self._order = self._order_of.samples(self.samples, epoch) if order is None else order.samples
        if windows is not None:
            assert order is not None, "windows of another order"
            windows.start_epoch(order, step * self.batch_size)
        if owned is not None and step < self.steps_per_epoch and (self._reads.prefetch or windows is not None):
            self._read_ahead(step, owned)
        assert windows is None or self._ahead is not None or step == self.steps_per_epoch

    def _read_ahead(self, step: int, owned: tuple[int, int]) -> None:
        self._owned, ahead = owned, self._reads.prefetch
        starts = self._starts_of(self.batch_size, *owned)
        most = starts[-1] - starts[0] + (owned[1] - owned[0])  # a smaller last batch is cut at other places
        self._ahead = ReadAhead(
            self._read,
            range(step, self.steps_per_epoch),
            [self._batch(most, own=not ahead) for _ in range(max(1, ahead))],
            ahead=ahead > 0,
            beat=self._reads.beat,
            around=_Arithmetic(self._order_of.arithmetic),
        )

    def _batch(self, n: int, *, own: bool) -> _Batch:
        """Return memory for n samples, or that in which the model takes them."""
        return _Batch([each.room(n)[0] if own else each.like(n) for each in self._buffers])

    def close(self) -> None:
        """End the reading ahead."""
        if self._ahead is not None:
            self._ahead.close()
        self._ahead, self._held = None, -1

    def take_batch(self, x: Rows, y: Rows, weights: Rows | None = None) -> None:
        """Take the shards from these samples from now on, all of them one batch in their order, of the same shapes.

        They have weights, if the samples before them had some.
        """
        if x.shape[0] != self.batch_size:
            self._starts.clear()  # else it would grow with every size that is met
        self.samples = self.batch_size = x.shape[0]
        for buffer, rows in zip(self._buffers, (x, y) if weights is None else (x, y, weights), strict=True):
            buffer.rows = rows
        self._order = np.arange(self.samples, dtype=np.int64)

    def shards(self, step: int, first: int, stop: int) -> Shards:
        """Return the samples of the shards [first, stop) of batch `step` of the epoch; see `LoadShards`."""
        begin, end = batch_bounds(self.samples, self.batch_size, step)
        starts = self._starts_of(end - begin, first, stop)
        if self._ahead is None:
            indices = self._order[begin + starts[0] : begin + starts[-1]]
            return _shards([each.take(indices) for each in self._buffers], starts)
        assert self._owned is not None
        if step != self._held:
            batch = self._ahead.take()
            if self._reads.prefetch:
                for buffer, rows in zip(self._buffers, batch.arrays, strict=True):
                    buffer.copy(rows[: batch.n])
            self._ahead.give_back(batch)
            self._held = step
        own = self._starts_of(end - begin, *self._owned)
        loaded = _shards([each.room(own[-1] - own[0])[1] for each in self._buffers], starts)
        if (first, stop) == self._owned:
            return loaded
        return loaded.part(slice(starts[0] - own[0], starts[-1] - own[0]))

    def _read(self, step: int, batch: _Batch, reading: Reading) -> None:
        """Read this rank's samples of a batch, window by window where there are some."""
        assert self._owned is not None
        begin, end = batch_bounds(self.samples, self.batch_size, step)
        starts = self._starts_of(end - begin, *self._owned)
        first, stop = begin + starts[0], begin + starts[-1]
        batch.n = stop - first
        windows = self._reads.windows
        if windows is None:
            self._take(first, stop, batch, 0)
            return
        for window, (left, right) in windows.parts(begin, end):
            windows.enter(window, reading)
            own = max(left, first), min(right, stop)
            if own[0] < own[1]:
                self._take(*own, batch, own[0] - first)
            windows.leave(window, right)
        windows.advance(end, reading)

    def _take(self, first: int, stop: int, batch: _Batch, place: int) -> None:
        indices = self._order[first:stop]
        for buffer, array in zip(self._buffers, batch.arrays, strict=True):
            buffer.rows.take(indices, array[place : place + len(indices)])

    def _starts_of(self, n: int, first: int, stop: int) -> tuple[int, ...]:
        key = n, first, stop
        starts = self._starts.get(key)
        if starts is None:
            starts = self._starts[key] = shard_starts(n, self._shards, first, stop)
        return starts


def _shards(arrays: Sequence[Array], starts: Sequence[int]) -> Shards:
    return Shards(arrays[0], arrays[1], starts, arrays[2] if len(arrays) > 2 else None)


class _Arithmetic:
    """The settings of a thread's arithmetic: those of the main thread in a step."""

    def __init__(self, arithmetic: str) -> None:
        self._arithmetic = arithmetic
        self._stack = ExitStack()

    def __enter__(self) -> None:
        self._stack.enter_context(np.errstate(all="ignore"))
        self._stack.enter_context(FlushDenormals(flush=self._arithmetic == "numpy"))

    def __exit__(self, *error: object) -> None:
        self._stack.close()


class PieceLoader:
    """Samples in their own order, in pieces of one size: what evaluation and prediction go through."""

    def __init__(
        self,
        x: Rows,
        y: Rows | None,
        *,
        piece_size: int,
        input_shape: tuple[int, ...],
        dtype: DTypeLike,
        weights: Rows | None = None,
        files: Sequence[str] = (),
    ) -> None:
        self.samples, self.files = x.shape[0], files
        """How many there are, and the file of each, where each has one."""
        self.pieces = steps_per_epoch(self.samples, piece_size)
        self._piece_size = piece_size
        self._x = _Buffer(x, dtype, input_shape)
        self._y = None if y is None else _target_buffer(y, dtype)
        self._weights = _weight_buffer(weights, dtype)

    def inputs(self, i: int) -> Array:
        """Return the inputs of piece `i`, valid until the next call."""
        return self._x.take(self._indices(i))

    def piece(self, i: int) -> tuple[Array, Array, Array | None]:
        """Return inputs, targets and weights of piece `i`, valid until the next call; None: each weighs 1."""
        assert self._y is not None
        indices = self._indices(i)
        weights = self._weights[0].take(indices) if self._weights else None
        return self.inputs(i), self._y.take(indices), weights

    def _indices(self, i: int) -> Indices:
        return np.arange(*batch_bounds(self.samples, self._piece_size, i), dtype=np.int64)

"""Rows on demand: sources that fill an array with chosen rows, without holding or copying the rest."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hpcnn.data.sampler import Indices

Array = NDArray[Any]
BLOCK_BYTES = 2**17
"""Size of the buffer for rows that are converted; it fits into the second-level cache."""
LEAF_ENTRIES = 2**16
"""Entries per leaf of a reduction over data."""
MATERIALIZE_BYTES = 2**26
"""Largest result of `materialize` in bytes. Larger rows are converted whenever they are taken."""


class Rows(Protocol):
    """A table of samples, wherever it is stored. `take` reuses its buffers: an object is for one thread."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, *features)."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values before they are cast."""
        ...

    def take(self, indices: Indices, out: Array) -> None:
        """Write the rows `indices`, shape (k,), into `out`, C-ordered, shape (k, *features), cast to its type.

        The caller ensures that indices are in [0, n); they are not checked.
        """
        ...


class Buffer:
    """Scratch rows that are reallocated only if more rows are requested than ever before."""

    def __init__(self, row_shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self.row_shape, self.dtype = row_shape, np.dtype(dtype)
        self._array: Array = np.empty((0, *row_shape), dtype)
        self.block = max(1, BLOCK_BYTES // max(1, math.prod(row_shape) * self.dtype.itemsize))
        """Rows that fit into `BLOCK_BYTES`, at least one."""

    def __reduce__(self) -> tuple[type[Buffer], tuple[tuple[int, ...], np.dtype[Any]]]:
        """Return how to make another one: scratch memory is never shared."""
        return Buffer, (self.row_shape, self.dtype)

    def rows(self, n: int) -> Array:
        """Return uninitialised rows, shape (n, *row_shape)."""
        if len(self._array) < n:
            self._array = np.empty((n, *self.row_shape), self.dtype)
        return self._array[:n]


def _as_bytes(array: Array) -> NDArray[np.uint8]:
    """Return the bytes of each row of a C-ordered array, shape (n, bytes of a row), as a view."""
    assert array.flags.c_contiguous, "a reshaped copy would swallow what is written"
    return array.reshape(len(array), math.prod(array.shape[1:])).view(np.uint8)


class ArrayRows:
    """Rows of an array in memory or, with `mapped`, of a file mapped into memory."""

    def __init__(self, array: Array, *, mapped: bool = False) -> None:
        self.array = np.ascontiguousarray(array)
        self.mapped = mapped
        self.shape, self.dtype = array.shape, array.dtype
        self._prepare()

    def _prepare(self) -> None:
        # As bytes, because take first copies the whole of an array that is not aligned (members of an .npz).
        self._bytes = _as_bytes(self.array)
        self._aligned = self.array.flags.aligned
        self._raw = Buffer((self._bytes.shape[1],), np.uint8)

    def __getstate__(self) -> dict[str, Any]:
        """Return what it is made of, the values once."""
        return {name: value for name, value in vars(self).items() if name not in ("_bytes", "_aligned", "_raw")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make it of what `__getstate__` returned."""
        vars(self).update(state)
        self._prepare()

    def take(self, indices: Indices, out: Array) -> None:
        """Write rows into `out`; see `Rows.take`."""
        if out.dtype == self.dtype:
            # mode="clip": with the default, take fills a hidden array first and copies it to `out`.
            if self._aligned:
                assert out.flags.c_contiguous, "a copy would swallow what is written"
                self.array.take(indices, 0, out, "clip")
            else:
                self._bytes.take(indices, 0, _as_bytes(out), "clip")
            return
        for start in range(0, len(indices), self._raw.block):
            part = indices[start : start + self._raw.block]
            raw = self._raw.rows(len(part))
            self._bytes.take(part, 0, raw, "clip")
            values = raw.view(self.dtype).reshape(len(part), *self.shape[1:])
            np.copyto(out[start : start + len(part)], values, casting="unsafe")


class SubsetRows:
    """A subset of other rows: row i is their row ``index[i]``."""

    def __init__(self, rows: Rows, index: Indices) -> None:
        self.rows, self.index = rows, index
        self.shape, self.dtype = (len(index), *rows.shape[1:]), rows.dtype
        self._mapped = Buffer((), np.int64)

    def take(self, indices: Indices, out: Array) -> None:
        """Write rows into `out`; see `Rows.take`."""
        mapped = self._mapped.rows(len(indices))
        np.take(self.index, indices, out=mapped, mode="clip")
        self.rows.take(mapped, out)


class ComputedRows(ABC):
    """Rows that are computed block by block, then cast."""

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike = np.float64) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self._values = Buffer(shape[1:], dtype)
        self._block = self._values.block

    def take(self, indices: Indices, out: Array) -> None:
        """Write rows into `out`; see `Rows.take`."""
        for start in range(0, len(indices), self._block):
            part = indices[start : start + self._block]
            values = self._values.rows(len(part))
            self._fill(part, values)
            np.copyto(out[start : start + len(part)], values, casting="unsafe")

    @abstractmethod
    def _fill(self, rows: Indices, values: Array) -> None:
        """Write `rows`, shape (k,), into `values`, shape (k, *features), of the type `dtype`."""


class MappedRows(ComputedRows):
    """Rows of float64, each computed from the same row of other rows."""

    def __init__(self, rows: Rows, row_shape: tuple[int, ...]) -> None:
        super().__init__((rows.shape[0], *row_shape))
        self.rows = rows


class ColumnRows(MappedRows):
    """Some columns of rows (n, columns)."""

    def __init__(self, rows: Rows, columns: Sequence[int]) -> None:
        super().__init__(rows, (len(columns),))
        self._columns = np.array(columns, np.int64)
        self._whole = Buffer(rows.shape[1:], np.float64)

    def _fill(self, rows: Indices, values: Array) -> None:
        whole = self._whole.rows(len(rows))
        self.rows.take(rows, whole)
        np.take(whole, self._columns, 1, values, "clip")


class ScaledRows(MappedRows):
    """``(row - shift) * scale``, computed in float64 and then cast. `shift` and `scale` broadcast to a row."""

    def __init__(self, rows: Rows, shift: Array, scale: Array) -> None:
        super().__init__(rows, rows.shape[1:])
        # Repeated for a whole block: broadcasting a short row is several times slower and allocates buffers.
        block = (self._block, *rows.shape[1:])
        self._shift, self._scale = (
            np.broadcast_to(value, block if np.ndim(value) else (1,) * len(block)).astype(np.float64, "C")
            for value in (shift, scale)
        )

    def _fill(self, rows: Indices, values: Array) -> None:
        self.rows.take(rows, values)
        np.subtract(values, self._shift[: len(rows)], out=values)
        np.multiply(values, self._scale[: len(rows)], out=values)


class JoinedRows:
    """Several tables of the same samples side by side, each row flat: (n, entries of all)."""

    def __init__(self, parts: Sequence[Rows]) -> None:
        self.parts = tuple(parts)
        sizes = [math.prod(rows.shape[1:]) for rows in parts]
        self._places = [slice(sum(sizes[:place]), sum(sizes[: place + 1])) for place in range(len(sizes))]
        self.shape = (parts[0].shape[0], sum(sizes))
        self.dtype = np.result_type(*(rows.dtype for rows in parts))
        self._buffers = [Buffer(rows.shape[1:], rows.dtype) for rows in parts]

    def take(self, indices: Indices, out: Array) -> None:
        """Write rows into `out`; see `Rows.take`."""
        for rows, place, buffer in zip(self.parts, self._places, self._buffers, strict=True):
            for start in range(0, len(indices), buffer.block):
                part = indices[start : start + buffer.block]
                values = buffer.rows(len(part))
                rows.take(part, values)
                flat = values.reshape(len(part), place.stop - place.start)
                np.copyto(out[start : start + len(part), place], flat, casting="unsafe")


class ReshapedRows:
    """The same values with another row shape."""

    def __init__(self, rows: Rows, row_shape: tuple[int, ...]) -> None:
        assert math.prod(rows.shape[1:]) == math.prod(row_shape)
        self.rows = rows
        self.shape, self.dtype = (rows.shape[0], *row_shape), rows.dtype

    def take(self, indices: Indices, out: Array) -> None:
        """Write rows into `out`; see `Rows.take`."""
        assert out.flags.c_contiguous, "a reshaped copy would swallow what is written"
        self.rows.take(indices, out.reshape(len(out), *self.rows.shape[1:]))


class CastRows:
    """The same values as another type, cast when they are taken: for example labels that were stored as floats."""

    def __init__(self, rows: Rows, dtype: DTypeLike) -> None:
        self.rows = rows
        self.shape, self.dtype = rows.shape, np.dtype(dtype)

    def take(self, indices: Indices, out: Array) -> None:
        """Write rows into `out`; see `Rows.take`."""
        self.rows.take(indices, out)


class OneHotRows:
    """Integer labels, shape (n, ...), as rows of zeros with a single one, shape (n, ..., classes)."""

    def __init__(self, labels: Rows, classes: int) -> None:
        self.labels, self.classes = labels, classes
        self.shape, self.dtype = (*labels.shape, classes), np.dtype(np.uint8)
        self._positions = Buffer(labels.shape[1:], np.int64)
        self._starts = np.empty(0, np.int64)

    def take(self, indices: Indices, out: Array) -> None:
        """Write rows into `out`; see `Rows.take`."""
        assert out.flags.c_contiguous, "a reshaped copy would swallow what is written"
        positions = self._positions.rows(len(indices))
        self.labels.take(indices, positions)
        flat = positions.reshape(-1)
        if len(self._starts) < len(flat):
            self._starts = np.arange(len(flat), dtype=np.int64) * self.classes
        np.add(flat, self._starts[: len(flat)], out=flat)
        out.fill(0)
        out.reshape(-1)[flat] = 1


class Chunks:
    """All rows in fixed consecutive chunks: the leaves of every reduction over data, for any number of ranks."""

    def __init__(self, rows: Rows, dtype: DTypeLike) -> None:
        self.rows = rows
        self.size = max(1, LEAF_ENTRIES // max(1, math.prod(rows.shape[1:])))
        self._buffer = Buffer(rows.shape[1:], dtype)

    def __len__(self) -> int:
        return -(-self.rows.shape[0] // self.size)

    def start(self, i: int) -> int:
        """Return the first row of chunk i."""
        return i * self.size

    def __getitem__(self, i: int) -> Array:
        """Return the values of chunk i, shape (k, *features), valid until the next call."""
        if not 0 <= i < len(self):
            raise IndexError(i)
        indices = np.arange(self.start(i), min(self.start(i + 1), self.rows.shape[0]), dtype=np.int64)
        values = self._buffer.rows(len(indices))
        self.rows.take(indices, values)
        return values

    def __iter__(self) -> Iterator[Array]:
        return (self[i] for i in range(len(self)))


def reshaped_from(rows: Rows) -> Rows:
    """Return the rows in the shape in which they were read."""
    while isinstance(rows, ReshapedRows):
        rows = rows.rows
    return rows


def in_memory(rows: Rows) -> bool:
    """Return whether the values are held in memory, not in a file or by a formula."""
    while isinstance(rows, SubsetRows | MappedRows | ReshapedRows):
        rows = rows.rows
    if isinstance(rows, JoinedRows):
        return all(map(in_memory, rows.parts))
    return isinstance(rows, ArrayRows) and not rows.mapped


def materialize(rows: Rows, dtype: DTypeLike) -> Rows:
    """Return the same rows, scaled and cast to `dtype` once if they are small and in memory.

    The bits are those that `take` would return.
    """
    dtype = np.dtype(dtype)
    done = isinstance(rows, ArrayRows) and rows.dtype == dtype
    if done or not in_memory(rows) or math.prod(rows.shape) * dtype.itemsize > MATERIALIZE_BYTES:
        return rows
    values = np.empty(rows.shape, dtype)
    for start in range(0, len(values), LEAF_ENTRIES):
        stop = min(start + LEAF_ENTRIES, len(values))
        rows.take(np.arange(start, stop, dtype=np.int64), values[start:stop])
    return ArrayRows(values)

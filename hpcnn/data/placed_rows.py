"""Rows that lie in chunks anywhere in a file, which is mapped into memory."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpcnn.data.row_copies import take_rows
from hpcnn.data.rows import Array, Buffer
from hpcnn.data.sampler import Indices


class PlacedRows:
    """Rows of a mapped file.

    Args:
        path: the file. The caller has checked that all chunks lie within it.
        dtype: type of the values.
        shape: (n, *features).
        chunk_rows: consecutive rows in a chunk, whose bytes follow each other.
        starts: the byte at which each chunk begins, (chunks,).
    """

    mapped = True

    def __init__(
        self,
        path: Path,
        dtype: np.dtype[np.generic],
        shape: tuple[int, ...],
        chunk_rows: int,
        starts: NDArray[np.int64],
    ) -> None:
        self.shape, self.dtype = shape, dtype
        self.array: Array = np.memmap(path, np.uint8, "r").view(np.ndarray)
        self._chunk_rows, self._starts = chunk_rows, starts
        self._row_bytes = math.prod(shape[1:]) * dtype.itemsize
        self._raw = Buffer((self._row_bytes,), np.uint8)

    def take(self, indices: Indices, out: Array) -> None:
        """Write rows into `out`; see `Rows.take`."""
        starts = self._starts[indices // self._chunk_rows] + indices % self._chunk_rows * self._row_bytes
        if out.dtype == self.dtype:
            take_rows(self.array, starts, out.reshape(len(out), -1).view(np.uint8) if out.size else out)
            return
        for first in range(0, len(indices), self._raw.block):
            part = starts[first : first + self._raw.block]
            raw = self._raw.rows(len(part))
            take_rows(self.array, part, raw)
            values = raw.view(self.dtype).reshape(len(part), *self.shape[1:])
            np.copyto(out[first : first + len(part)], values, casting="unsafe")

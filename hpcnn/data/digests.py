"""SHA-256 of the rows of arrays: of all, or of a sample of them that depends on shape and type alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from hpcnn.data.rows import ArrayRows, Buffer, Rows, reshaped_from

SAMPLE_BYTES = 2**26
"""Largest array in bytes that is hashed whole. Of a larger one in a file, a sample of this size is hashed."""
RUNS = 64
"""Number of runs of consecutive rows in the sample, evenly spaced from the first row to the last."""
BLOCK_BYTES = 2**20
"""Bytes hashed between two calls of `beat`."""
Beat = Callable[[], object]
Span = tuple[int, int]


def _row_bytes(rows: Rows) -> int:
    return int(np.prod(rows.shape[1:], dtype=np.int64)) * rows.dtype.itemsize


def is_part(nbytes: int) -> bool:
    """Return whether the sample of an array of that size is a part of it."""
    return nbytes > SAMPLE_BYTES


def is_sampled(rows: Rows) -> bool:
    """Return whether the sample of an array is a part of it. It depends only on shape and type."""
    return is_part(rows.shape[0] * _row_bytes(rows))


def sample(rows: Rows) -> list[Span]:
    """Return the sampled rows as ranges, which do not depend on how the array is stored."""
    n, row_bytes = rows.shape[0], _row_bytes(rows)
    if not is_sampled(rows):
        return [(0, n)]
    length = max(1, SAMPLE_BYTES // RUNS // row_bytes)
    runs = min(n, max(2, min(RUNS, SAMPLE_BYTES // (length * row_bytes))))
    starts = [i * (n - length) // max(1, runs - 1) for i in range(runs)]
    return [(start, start + length) for start in starts]


def whole(rows: Rows) -> list[Span]:
    """Return all rows, as one range."""
    return [(0, rows.shape[0])]


def _blocks(rows: Rows, span: Span) -> Iterator[NDArray[np.uint8]]:
    """Yield the bytes of a range of rows; each block is valid until the next one."""
    rows = reshaped_from(rows)
    buffer, step = Buffer(rows.shape[1:], rows.dtype), max(1, BLOCK_BYTES // max(1, _row_bytes(rows)))
    for start in range(*span, step):
        stop = min(start + step, span[1])
        if isinstance(rows, ArrayRows):
            values = rows.array[start:stop]
        else:
            values = buffer.rows(stop - start)
            rows.take(np.arange(start, stop, dtype=np.int64), values)
        yield values.reshape(-1).view(np.uint8)


def digests(arrays: Sequence[Rows], chosen: Callable[[Rows], list[Span]] = whole, beat: Beat = bool) -> list[str]:
    """Return, for each array, the SHA-256 of the `chosen` rows of it and of all arrays before it.

    >>> one, two = ArrayRows(np.arange(3)), ArrayRows(np.ones(3))
    >>> digests([one, two])[0] == digests([one])[0]
    True
    """
    sha256, found = hashlib.sha256(), []
    for rows in arrays:
        sha256.update(f"{rows.dtype.str} {rows.shape}\n".encode())
        for span in chosen(rows):
            for block in _blocks(rows, span):
                sha256.update(block.data)
                beat()
        found.append(sha256.hexdigest())
    return found

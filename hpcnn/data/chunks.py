"""Rows that are decoded in chunks: which they are, how many rows a chunk has, and in which chunk each sample is."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from hpcnn.data.rows import OneHotRows, Rows, SubsetRows
from hpcnn.data.sampler import Indices

DEFAULT_CHUNK_BYTES = 2**20
"""Size of a chunk of rows whose file has none."""


def chunk_rows_of(rows: Rows) -> int:
    """Return how many consecutive stored rows are decoded together: to take one costs as much as to take all of them.

    0: rows cost what they hold, as those in memory and of mapped files do.
    """
    return getattr(rows, "chunk_rows", 0)


def parts_within(rows: Rows) -> tuple[Rows, ...]:
    """Return the rows that these are made of; none for those that are stored or computed."""
    parts: tuple[Rows, ...] | None = getattr(rows, "parts", None)
    if parts is not None:
        return parts
    if isinstance(rows, OneHotRows):
        return (rows.labels,)
    within = getattr(rows, "rows", None)
    return () if within is None else (within,)


def stored(rows: Rows) -> Iterator[Rows]:
    """Yield the stored or computed rows that these are made of."""
    parts = parts_within(rows)
    if not parts:
        yield rows
    for part in parts:
        yield from stored(part)


def is_decoded(rows: Rows) -> bool:
    """Return whether some of the values are decoded in chunks whenever they are taken."""
    return any(map(chunk_rows_of, stored(rows)))


def replaced(rows: Rows, replacement: Callable[[Rows], Rows]) -> Rows:
    """Return the same rows, made of what `replacement` returns for each of the stored ones."""
    parts = parts_within(rows)
    if not parts:
        return replacement(rows)
    others = tuple(replaced(part, replacement) for part in parts)
    if all(other is part for other, part in zip(others, parts, strict=True)):
        return rows
    made: Any = copy.copy(rows)
    if hasattr(rows, "parts"):
        made.parts = others
    else:
        setattr(made, "labels" if isinstance(rows, OneHotRows) else "rows", others[0])
    return made  # type: ignore[no-any-return]


def stored_index(rows: Rows) -> Indices:
    """Return, for each row, the number of the stored row that it is made of, shape (n,)."""
    if isinstance(rows, SubsetRows):
        return np.asarray(stored_index(rows.rows)[rows.index])
    parts = parts_within(rows)
    return stored_index(parts[0]) if parts else np.arange(rows.shape[0], dtype=np.int64)


def usual_chunk_rows(rows: Rows) -> int:
    """Return the number of rows in a chunk: those of the file, or as many as fit into `DEFAULT_CHUNK_BYTES`.

    Rows that are decoded one by one, as pictures are, count as those of a file without chunks.
    """
    found = max(chunk_rows_of(one) or getattr(one, "stored_chunk_rows", 0) for one in stored(rows))
    if found > 1:
        return found
    row_bytes = sum(math.prod(each.shape[1:]) * each.dtype.itemsize for each in stored(rows))
    return max(1, DEFAULT_CHUNK_BYTES // max(1, row_bytes))

"""Rows of several arrays side by side, and parts of such rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpcnn.data.rows import Array, Buffer, ComputedRows, JoinedRows, Rows
from hpcnn.data.sampler import Indices
from hpcnn.data.source import Source
from hpcnn.errors import DataError
from hpcnn.job import data as schema


class PartRows(ComputedRows):
    """The entries of each row from `start` on that fill `shape`."""

    def __init__(self, rows: Rows, start: int, shape: tuple[int, ...]) -> None:
        super().__init__((rows.shape[0], *shape), rows.dtype)
        self.rows, self._part = rows, slice(start, start + math.prod(shape))
        self._whole = Buffer(rows.shape[1:], rows.dtype)

    def _fill(self, rows: Indices, values: Array) -> None:
        whole = self._whole.rows(len(rows))
        self.rows.take(rows, whole)
        values[...] = whole.reshape(len(whole), -1)[:, self._part].reshape(values.shape)


def joined(arrays: Mapping[str, Rows], what: str) -> Rows:
    """Return the arrays as rows, one after the other; a single one as it is. `what` names them.

    Raises:
        DataError: they have different numbers of samples.
    """
    counts = {name: rows.shape[0] for name, rows in arrays.items()}
    if len(set(counts.values())) > 1:
        each = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise DataError(f"the arrays of {what} have different numbers of rows: {each}. Give each one row a sample.")
    rows = list(arrays.values())
    return rows[0] if len(rows) == 1 else JoinedRows(rows)


def parts_of(arrays: Mapping[str, Rows]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of several arrays for one sample, that of single numbers as (1,)."""
    return {name: rows.shape[1:] or (1,) for name, rows in arrays.items()}


def arrays_source(path: Path, data: schema.Npz, read: Callable[..., tuple[Rows, ...]]) -> Source:
    """Return the arrays of a file that settings name, of which `read` returns those with some names.

    Without targets, those are the inputs, later.
    """
    names = [names_of(data.x), names_of(data.y), names_of(data.weights), names_of(data.group)]
    given = iter(read(path, *(name for part in names for name in part)))
    x, y, weights, groups = ({name: next(given) for name in part} for part in names)
    return Source(
        joined(x, f"inputs in {path}"),
        joined(y or x, f"targets in {path}"),
        inputs=parts_of(x) if len(x) > 1 else {},
        weights=weights.get(data.weights),
        groups=groups.get(data.group),
    )


def names_of(given: str | Sequence[str]) -> list[str]:
    """Return the names of arrays, of which a job may give one or a list; none for an empty one."""
    return [given] if isinstance(given, str) and given else list(given)


def matched(given: Mapping[str, Any], names: Sequence[str], what: str) -> dict[str, Any]:
    """Return arrays in the order of `names`, or their own where there are none.

    Raises:
        DataError: they have other names.
    """
    if names and set(names) != set(given):
        raise DataError(
            f"{what} has arrays named {', '.join(map(repr, given))}, but the model has {', '.join(map(repr, names))}. "
            "Give one array for each of these."
        )
    return {str(name): given[name] for name in names or given}

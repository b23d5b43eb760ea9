"""Columns of floats that go from each row group of a file straight to rows, so that no second copy of all is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcnn.data.columns import counted, stripped
from hpcnn.data.row_copies import columns_to_rows
from hpcnn.data.rows import Array
from hpcnn.data.source import unread
from hpcnn.data.tables.table import Column

_TOGETHER, _FEWEST = 2**21, 32
"""Bytes of the columns that are read together, so that they become rows while they are in a cache; fewest columns."""


class FloatBlock:
    """The columns of a file of its most frequent type of floats, in the order in which inputs are unless a job says so.

    Args:
        schema: that of the file, by Arrow. Each name is there once.
        rows: the number of rows.
        apart: names of columns that are left out, as those of targets are.
        what: names the file in messages.
    """

    def __init__(self, schema: Any, rows: int, apart: Sequence[str], what: object) -> None:
        stored, types, left_out = schema.names, list(map(str, schema.types)), set(apart)
        names = stripped(stored)
        own = [place for place, name in enumerate(names) if name not in left_out]
        kind = max(("float", "double"), key=[types[place] for place in own].count)
        found = [place for place in own if types[place] == kind]
        places = found if counted(names) else sorted(found, key=names.__getitem__)
        self._names, self._stored = [names[place] for place in places], [stored[place] for place in places]
        self._others = [stored[place] for place in sorted({*range(len(names))}.difference(found))]
        self._rows: Array = np.empty((rows, len(found)), np.float32 if kind == "float" else np.float64)
        self._missing, self._filled, self._what = np.zeros(len(found), bool), 0, what

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, file: Any, group: int) -> Any:
        """Take the next rows, a row group of a `ParquetFile`; return the other columns."""
        rows = file.metadata.row_group(group).num_rows
        into = self._rows[self._filled : self._filled + rows]
        if len(into) != rows:
            raise self._damaged()
        together = max(_FEWEST, _TOGETHER // max(1, rows * into.itemsize))
        for first in range(0, len(self._stored), together):
            part = slice(first, first + together)
            self._put(_columns_of(file, group, self._stored[part]), into[:, part], self._missing[part])
        self._filled += rows
        return _columns_of(file, group, self._others)

    def _put(self, table: Any, out: Array, missing: NDArray[np.bool_]) -> None:
        if table.num_rows != len(out):
            raise self._damaged()
        done = 0
        for batch in table.combine_chunks().to_batches():
            columns = batch.columns
            missing |= np.fromiter((column.null_count > 0 for column in columns), bool, len(columns))
            values = tuple(column.to_numpy(zero_copy_only=False) for column in columns)
            columns_to_rows(values, out[done : done + batch.num_rows])
            done += batch.num_rows

    def columns(self) -> dict[str, Column]:
        """Return the columns by name; those with missing values, NaN, as float64."""
        if self._filled != len(self._rows):
            raise self._damaged()
        found = {}
        for place, (name, missing) in enumerate(zip(self._names, self._missing, strict=True)):
            values = self._rows[:, place]
            found[name] = (
                Column(name, "number", values.astype(np.float64))
                if missing
                else Column(name, "number", values, within=(self._rows, place))
            )
        return found

    def _damaged(self) -> Exception:
        return unread(self._what, "its row groups have other numbers of rows than it declares")


def _columns_of(file: Any, group: int, names: list[str]) -> Any:
    """Return columns of a row group; of one "a", pyarrow gives "a.b" as well."""
    return file.read_row_group(group, columns=names, use_threads=False).select(names)

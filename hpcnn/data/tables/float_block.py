"""Columns of floats that go from each row group of a file straight to rows, so that no second copy of all is needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from hpcnn.data.columns import counted, stripped
from hpcnn.data.row_copies import columns_to_rows
from hpcnn.data.rows import Array
from hpcnn.data.source import unread
from hpcnn.data.tables.table import Column


class FloatBlock:
    """The columns of a file of its most frequent type of floats, in the order in which inputs are unless a job says so.

    Args:
        schema: that of the file, by Arrow.
        rows: the number of rows.
        apart: names of columns that are left out, as those of targets are.
        what: names the file in messages.
    """

    def __init__(self, schema: Any, rows: int, apart: Sequence[str], what: object) -> None:
        names, types = stripped(schema.names), list(map(str, schema.types))
        times, left_out = Counter(names), set(apart)
        own = [place for place, name in enumerate(names) if times[name] == 1 and name not in left_out]
        kind = max(("float", "double"), key=[types[place] for place in own].count)
        found = [place for place in own if types[place] == kind]
        self._places = found if counted(names) else sorted(found, key=names.__getitem__)
        self._others = sorted({*range(len(names))}.difference(found))
        self._names = [names[place] for place in self._places]
        self._rows: Array = np.empty((rows, len(found)), np.float32 if kind == "float" else np.float64)
        self._missing, self._filled, self._what = np.zeros(len(found), bool), 0, what

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, group: Any) -> Any:
        """Take the next rows, an Arrow table; return the other columns."""
        stop = self._filled + group.num_rows
        if stop > len(self._rows):
            raise self._damaged()
        for batch in group.select(self._places).combine_chunks().to_batches():
            columns = batch.columns
            self._missing |= np.fromiter((column.null_count > 0 for column in columns), bool, len(columns))
            values = tuple(column.to_numpy(zero_copy_only=False) for column in columns)
            columns_to_rows(values, self._rows[self._filled : self._filled + batch.num_rows])
            self._filled += batch.num_rows
        if self._filled != stop and self._names:
            raise self._damaged()
        self._filled = stop
        return group.select(self._others)

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

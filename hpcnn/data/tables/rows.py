"""Columns of a table as rows of numbers, with what the numbers stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hpcnn.data.rows import Array, ArrayRows, Rows
from hpcnn.data.source import column_values
from hpcnn.data.tables.table import Column, Kind
from hpcnn.data.tables.text import text_column
from hpcnn.errors import DataError, shortened

_EXACT = 2.0**53
_HELD = {"number": "numbers", "boolean": "booleans", "words": "words", "date": "dates"}


@dataclass(frozen=True)
class Field:
    """What the numbers of one column stand for."""

    name: str
    kind: Kind = "number"
    words: tuple[str, ...] = ()
    """Of words: their numbers are places in it. Of booleans: how false and true are spelt, if known."""


class TableRows(ArrayRows):
    """Columns of a table, shape (n, columns), or (n,) of a single one; NaN where a value is missing."""

    def __init__(self, array: Array, fields: Sequence[Field]) -> None:
        super().__init__(array)
        self.fields = tuple(fields)

    def column(self, place: int) -> Array:
        """Return the values of the column at `place`, shape (n,)."""
        values: Array = self.array if self.array.ndim == 1 else self.array[:, place]
        return values


def table_rows(columns: Sequence[Column], *, flat: bool = False) -> TableRows:
    """Return columns as rows of one type; with `flat` a single one as rows of shape ()."""
    values = _values(columns)
    fields = [Field(column.name.strip(), column.kind, column.words) for column in columns]
    return TableRows(values[:, 0] if flat and len(columns) == 1 else values, fields)


def _values(columns: Sequence[Column]) -> Array:
    within = [column.within for column in columns]
    whole = within[0] and within[0][0]
    places = [one[1] for one in within if one is not None and one[0] is whole]
    if whole is not None and len(places) == len(columns):
        return whole if places == [*range(whole.shape[1])] else whole.take(places, 1)
    numbers = [
        np.where(column.values < 0, np.nan, column.values) if column.kind == "words" else column.values
        for column in columns
    ]
    return column_values(numbers, len(numbers[0]))


def fields_of(rows: Rows) -> tuple[Field, ...]:
    """Return what the columns of rows stand for; empty for those that are of no table."""
    return rows.fields if isinstance(rows, TableRows) else ()


def conformed(rows: TableRows, kinds: Sequence[Kind], what: str) -> TableRows:
    """Return rows whose columns are of these kinds. `what` names them in messages.

    Raises:
        DataError: a column can't be read so, as words that are no numbers.
    """
    if all(_same(field.kind, kind) for field, kind in zip(rows.fields, kinds, strict=True)):
        return rows
    values = rows.array.astype(np.float64).reshape(len(rows.array), -1)
    fields = []
    for place, (field, kind) in enumerate(zip(rows.fields, kinds, strict=True)):
        values[:, place], field = _as(values[:, place], field, kind, what)
        fields.append(field)
    return TableRows(values.reshape(rows.array.shape), fields)


def _same(kind: Kind, wanted: Kind) -> bool:
    return kind == wanted or {kind, wanted} == {"number", "boolean"}


def _as(values: Array, field: Field, kind: Kind, what: str) -> tuple[Array, Field]:
    known = ~np.isnan(values)
    if _same(field.kind, kind):
        return values, field
    if not known.any():
        return values, replace(field, kind=kind, words=())
    if kind == "words":
        return _worded(values, known, field)
    if field.kind == "words":
        return _read(values, known, field, kind, what)
    raise _wrong_kind(field, kind, _word(field, values[known][0]), what)


def _wrong_kind(field: Field, kind: Kind, example: str, what: str) -> DataError:
    advice = " Dates are written 2024-05-31 or 2024-05-31 17:45." if kind == "date" else ""
    return DataError(
        f"{what}: column {shortened(field.name)!r} holds {_HELD[field.kind]}, as {shortened(example)!r}, but "
        f"{_HELD[kind]} are needed: correct the column, or change its kind in data.columns, or, for a trained model, "
        f"give what it was trained on.{advice}"
    )


def _worded(values: Array, known: NDArray[np.bool_], field: Field) -> tuple[Array, Field]:
    distinct, places = np.unique(values[known], return_inverse=True)
    spelt = [_word(field, value) for value in distinct]
    words = tuple(sorted(spelt))
    rank = {word: float(place) for place, word in enumerate(words)}
    codes = np.full(len(values), np.nan)
    codes[known] = np.array([rank[word] for word in spelt])[places]
    return codes, Field(field.name, "words", words)


def _word(field: Field, value: float) -> str:
    """Return a number, a boolean or a date as a word: 3 for 3.0, and ISO dates, without the time at midnight."""
    if field.kind == "boolean":
        return (field.words or ("false", "true"))[int(value)]
    if field.kind == "date":
        text = str(np.datetime64(int(value // 1), "s"))
        return text.removesuffix("T00:00:00")
    return str(int(value)) if value == int(value) and abs(value) < _EXACT else repr(float(value))


def _read(
    values: Array, known: NDArray[np.bool_], field: Field, kind: Kind, what: str
) -> tuple[NDArray[np.float64], Field]:
    """Return words as what they say, as in a text file: numbers, booleans or dates."""
    column = text_column(field.name, field.words)
    if not _same(column.kind, kind):
        odd = (word for word in field.words if not _same(text_column("", [word]).kind, kind))
        bad = next(odd, field.words[0])
        raise _wrong_kind(field, kind, bad, what)
    found = np.full(len(values), np.nan)
    found[known] = column.values[values[known].astype(np.int64)]
    return found, Field(field.name, column.kind, column.words)

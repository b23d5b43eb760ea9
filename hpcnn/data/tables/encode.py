"""Rows of a table as the recipe says: features of the inputs, and targets as labels or numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hpcnn.core.formatting import counted
from hpcnn.data.checks import check_each
from hpcnn.data.columns import listed
from hpcnn.data.reduction import Reduction
from hpcnn.data.rows import Array, Buffer, Chunks, MappedRows, Rows
from hpcnn.data.sampler import Indices
from hpcnn.data.source import Source
from hpcnn.data.tables.dates import date_features
from hpcnn.data.tables.recipe import ColumnRecipe, Recipe, TargetRecipe
from hpcnn.data.tables.rows import Field, TableRows, conformed
from hpcnn.data.tables.table import Kind
from hpcnn.errors import DataError, shortened

Write = Callable[[Array, Array], None]
"""Writes the features, (k, features), of the values (k,) of one column, in which NaN is missing."""
VALIDATION = "the validation data"
_UNKNOWN = -1
_ADVICE = (
    ', or let data.missing = "mean", "median", "most_frequent" or "indicator" fill it, or leave the column out by '
    "data.exclude"
)


class EncodedRows(MappedRows):
    """The features of the rows of a table."""

    def __init__(self, rows: TableRows, columns: Sequence[ColumnRecipe]) -> None:
        super().__init__(rows, (sum(len(column.features) for column in columns),))
        self._raw = Buffer(rows.shape[1:], np.float64)
        self._columns: list[tuple[slice, Write]] = []
        start = 0
        for field, column in zip(rows.fields, columns, strict=True):
            stop = start + len(column.features)
            self._columns.append((slice(start, stop), _writer(field, column)))
            start = stop

    def _fill(self, rows: Indices, values: Array) -> None:
        raw = self._raw.rows(len(rows))
        self.rows.take(rows, raw)
        for place, (features, write) in enumerate(self._columns):
            write(raw[:, place], values[:, features])


def _writer(field: Field, column: ColumnRecipe) -> Write:
    own = len(column.features) - column.indicator

    def write(values: Array, out: Array) -> None:
        missing = np.isnan(values)
        if column.indicator:
            out[:, own] = missing
        out = out[:, :own]
        if column.is_category:
            put(_codes(values, missing, places), out)
        else:
            put(values if column.fill is None else np.where(missing, column.fill, values), out)

    places = category_places(field, column) if column.is_category else np.zeros(0, np.int64)
    put = _PUT.get(column.kind, _put_number)
    if column.kind == "date":
        put = partial(_put_date, time=column.time)
    return write


def category_places(field: Field, column: ColumnRecipe) -> NDArray[np.int64]:
    """Return the place among the categories of each word, -1 if it is unknown; then what stands for missing values."""
    rank = {word: place for place, word in enumerate(column.categories)}
    fill = _UNKNOWN if column.fill is None else int(column.fill)
    return np.array([*(rank.get(word, _UNKNOWN) for word in field.words), fill], np.int64)


def _codes(values: Array, missing: NDArray[np.bool_], places: NDArray[np.int64]) -> NDArray[np.int64]:
    codes: NDArray[np.int64] = places[np.where(missing, len(places) - 1, values).astype(np.int64)]
    return codes


def _put_number(values: Array, out: Array) -> None:
    out[:, 0] = values


def _put_date(values: Array, out: Array, *, time: bool) -> None:
    out[...] = date_features(values, time=time)


def _put_integer(values: Array, out: Array) -> None:
    out[:, 0] = values + 1


def _put_one_hot(values: Array, out: Array) -> None:
    out[...] = 0
    known = np.flatnonzero(values != _UNKNOWN)
    out[known, values[known]] = 1


_PUT: dict[str, Write] = {"integer": _put_integer, "one_hot": _put_one_hot}


def raw_kind(column: ColumnRecipe) -> Kind:
    """Return the kind of the values that a column is made from."""
    return "words" if column.is_category else "date" if column.kind == "date" else "number"


def encoded_inputs(rows: Rows, recipe: Recipe | None, what: str, reduction: Reduction) -> Rows:
    """Return the features of inputs that are columns of a table; other inputs as they are. Collective.

    Args:
        rows: the columns in the order of the recipe.
        recipe: that of the model; None of one that was trained on numbers alone.
        what: names them in messages.
        reduction: distributes the checks over the ranks.

    Raises:
        DataError: values are missing that must not be, a column holds something else than in the training data, or a
            word has no place in its order.
    """
    if not isinstance(rows, TableRows):
        return rows
    columns = recipe.columns if recipe and recipe.columns else [_number(field) for field in rows.fields]
    if len(columns) != len(rows.fields):
        raise DataError(
            f"{what} has {counted(len(rows.fields), 'column')} of inputs, but the model takes {len(columns)}."
        )
    rows = conformed(rows, [raw_kind(column) for column in columns], what)
    check_missing(rows, [column.refuses_missing for column in columns], what, reduction)
    for place, column in enumerate(columns):
        if column.kind == "ordered":
            _check_order(rows, place, column, what)
    return EncodedRows(rows, columns) if recipe and recipe.changes_inputs else rows


def _number(field: Field) -> ColumnRecipe:
    return ColumnRecipe(name=field.name, kind="number")


def check_missing(rows: TableRows, refused: Sequence[bool], what: str, reduction: Reduction) -> None:
    """Raise DataError if a column that must not lacks values. Collective."""
    checked, chunks = np.array(refused, bool), Chunks(rows, rows.dtype)
    if rows.dtype.kind != "f" or not checked.any() or not rows.shape[0]:
        return
    names = [field.name for field in rows.fields]
    check_each(chunks, lambda i: np.isnan(chunks[i]) & checked, what, "missing", reduction, names, _ADVICE)


def _check_order(rows: TableRows, place: int, column: ColumnRecipe, what: str) -> None:
    """Raise DataError if a word that occurs has no place in the order of its column."""
    unknown = unknown_words(rows, place, column)
    if unknown:
        raise DataError(
            f"{what}: column {shortened(column.name)!r} holds {listed(sorted(unknown))}, which its order lacks: "
            f"{listed(column.categories)}. Correct the words, or add them to data.columns.{column.name}.order."
        )


def unknown_words(rows: TableRows, place: int, column: ColumnRecipe, chosen: Indices | None = None) -> dict[str, int]:
    """Return how often each word occurs, in all rows or those `chosen`, that is none of the categories."""
    words = rows.fields[place].words
    places = category_places(rows.fields[place], column)[:-1]
    if not (places == _UNKNOWN).any():
        return {}
    values = rows.column(place) if chosen is None else rows.column(place)[chosen]
    codes = values[~np.isnan(values)].astype(np.int64)
    counts = np.bincount(codes, minlength=len(words))
    return {words[code]: int(counts[code]) for code in np.flatnonzero((places == _UNKNOWN) & (counts > 0))}


def unknown_notes(rows: Rows, recipe: Recipe | None, what: str, chosen: Indices | None = None) -> tuple[str, ...]:
    """Return a warning for each column with words that the training data do not have; see `unknown_words`."""
    notes: list[str] = []
    if recipe is None or not isinstance(rows, TableRows) or not recipe.columns:
        return ()
    rows = conformed(rows, [raw_kind(column) for column in recipe.columns], what)
    for place, column in enumerate(recipe.columns):
        found = unknown_words(rows, place, column, chosen) if column.kind in ("one_hot", "integer") else {}
        if found:
            value = "all columns of its words are 0" if column.kind == "one_hot" else "its number is 0"
            notes.append(
                f"{what}: column {shortened(column.name)!r} has {sum(found.values())} values that no row of the "
                f"training has, as {listed([*found][:3])}: {value}."
            )
    return tuple(notes)


def encoded_targets(rows: Rows, recipe: Recipe | None, what: str) -> Rows:
    """Return targets as numbers, words as the numbers of their classes; those of no table as they are.

    Raises:
        DataError: a word is none of the classes, or a column holds something else than in the training data.
    """
    if not isinstance(rows, TableRows):
        return rows
    targets = recipe.targets if recipe else []
    if len(targets) != len(rows.fields):
        targets = [TargetRecipe(name=field.name) for field in rows.fields]
    rows = conformed(rows, ["words" if target.kind == "words" else "number" for target in targets], what)
    if not any(target.kind == "words" for target in targets):
        return rows
    values = rows.array.astype(np.float64)
    columns = values.reshape(len(values), -1)
    for place, target in enumerate(targets):
        if target.kind == "words":
            columns[:, place] = _labels(columns[:, place], rows.fields[place], target, what)
    return TableRows(values, [Field(field.name) for field in rows.fields])


def encoded(source: Source, recipe: Recipe | None, what: str, reduction: Reduction) -> Source:
    """Return a source with the columns of tables as a recipe says. Collective. `what` names the data.

    Raises:
        DataError: the columns do not suit the recipe.
    """

    def pair(x: Rows, y: Rows, what: str) -> tuple[Rows, Rows]:
        inputs = encoded_inputs(x, recipe, f"inputs of {what}", reduction)
        return inputs, encoded_targets(y, recipe, f"targets of {what}")

    x, y = pair(source.x, source.y, what)
    held = source.validation and pair(*source.validation, VALIDATION)
    source = replace(source, x=x, y=y, validation=held)
    if recipe is None or not recipe.columns:
        return source
    return replace(source, features=recipe.features if recipe.changes_inputs else None, inputs=recipe.input_shapes())


def _labels(values: Array, field: Field, target: TargetRecipe, what: str) -> Array:
    rank = {word: float(place) for place, word in enumerate(target.words)}
    labels = np.array([*(rank.get(word, _UNKNOWN) for word in field.words), np.nan])
    found: Array = labels[np.where(np.isnan(values), len(labels) - 1, values).astype(np.int64)]
    wrong = np.flatnonzero(found == _UNKNOWN)
    if len(wrong):
        word = field.words[int(values[wrong[0]])]
        raise DataError(
            f"{what}: {shortened(word)!r} in row {wrong[0]}, counted from 0, is none of the classes of "
            f"{shortened(target.name)!r} in the training data: {listed(target.words)}. Correct it, or leave such rows "
            "out, or train with samples of that class."
        )
    return found

"""Measures a recipe over the training split: categories, what fills missing values, and the classes of targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from hpcnn.data.reduction import Reduction, totals
from hpcnn.data.rows import Array, Chunks, Rows, SubsetRows
from hpcnn.data.sampler import Indices
from hpcnn.data.tables.dates import DAY_S
from hpcnn.data.tables.encode import check_missing
from hpcnn.data.tables.recipe import ColumnKind, ColumnRecipe, Recipe, TargetRecipe
from hpcnn.data.tables.rows import Field, TableRows, conformed, fields_of
from hpcnn.data.tables.table import Kind
from hpcnn.data.tables.text import is_number
from hpcnn.errors import DataError, JobError, shortened
from hpcnn.job.data import Memory, TableColumn, TableSection

_FEW = 20
"""As many words as this are categories, however few rows there are."""
_MOST_ONE_HOT = 10_000
"""More words than that are one-hot only if the job says so of their column: each sample has so many numbers more."""
_DEFAULT = TableColumn()


Encoding = TableSection | Memory
"""The settings that decide what becomes of columns."""


def fit_recipe(
    x: Rows,
    y: Rows,
    inputs: Mapping[str, tuple[int, ...]],
    settings: Encoding,
    *,
    training: Indices | None,
    reduction: Reduction,
    arithmetic: str,
) -> Recipe | None:
    """Return the recipe of a table; None if neither inputs nor targets are columns of one. Collective.

    Args:
        x: the inputs, all rows of the file.
        y: the targets.
        inputs: the number of columns of each of several inputs of the model.
        settings: the job's.
        training: the rows of the training split; None: all.
        reduction: distributes the statistics over the ranks.
        arithmetic: what adds them up.

    Raises:
        DataError: values are missing, a column holds too many different words, or none in the training split.
        JobError: a setting is for a column that there is not.
    """
    fields, targets = fields_of(x), fields_of(y)
    if not (fields or targets):
        return None
    _check_names(settings.columns, [field.name for field in (*fields, *targets)])
    columns: list[ColumnRecipe] = []
    if isinstance(x, TableRows):
        what = "inputs of the training data"
        rows = conformed(x, [_wanted(field, settings) for field in fields], what)
        missing = [_missing(field, settings) for field in rows.fields]
        check_missing(rows, [policy == "error" for policy in missing], what, reduction)
        for place in range(len(fields)):
            _check_words(rows, place, settings)
        columns = _Measured(rows, settings, training, reduction, arithmetic).columns()
    return Recipe(
        columns=columns,
        targets=_targets(y, settings) if isinstance(y, TableRows) else [],
        inputs={name: shape[0] for name, shape in inputs.items()} if columns else {},
    )


def _check_names(columns: Mapping[str, TableColumn], known: Sequence[str]) -> None:
    for name in columns:
        if name not in known:
            raise JobError(
                f"data.columns.{name} is for no column that is used. Those are: {shortened(', '.join(known))}."
            )


def _settings(field: Field, settings: Encoding) -> TableColumn:
    return settings.columns.get(field.name, _DEFAULT)


def _missing(field: Field, settings: Encoding) -> str:
    return _settings(field, settings).missing or settings.missing


def _wanted(field: Field, settings: Encoding) -> Kind:
    """Return the kind of values that a column is to have."""
    own = _settings(field, settings)
    if own.order or own.kind == "category":
        return "words"
    return field.kind if own.kind == "auto" else own.kind


def _check_words(rows: TableRows, place: int, settings: Encoding) -> None:
    """Refuse words that are hardly categories, unless the job says that they are: a few among numbers, and names."""
    field = rows.fields[place]
    own, name, words = _settings(field, settings), shortened(field.name), field.words
    one_hot = not (own.order or own.categories) and settings.categories == "one_hot"
    if field.kind == "words" and one_hot and len(words) > _MOST_ONE_HOT:
        raise DataError(
            f"inputs of the training data: column {name!r} has {len(words):,} different words, of which one_hot would "
            f'make a column each. Set data.columns.{name}.categories = "integer", for an embedding, or "one_hot" if '
            f'that is meant, or leave it out: data.exclude = ["{name}"].'
        )
    if field.kind != "words" or own.kind == "category" or own.order:
        return
    numbers = sum(map(is_number, words))
    meant = f'If they are categories all the same: data.columns.{name}.kind = "category".'
    if 2 * numbers >= len(words) and numbers < len(words):
        code = next(code for code, word in enumerate(words) if not is_number(word))
        row = int(np.flatnonzero(rows.column(place) == code)[0])
        raise DataError(
            f"inputs of the training data: column {name!r} holds {shortened(words[code])!r} among numbers, the first "
            f"in row {row}, counted from 0. Correct it, or leave the cell empty and let data.missing fill it. {meant}"
        )
    if len(words) > max(_FEW, rows.shape[0] // 2):
        raise DataError(
            f"inputs of the training data: column {name!r} has {len(words)} different words in {rows.shape[0]} rows, "
            "as names and numbers of tickets have, from which nothing can be learned. Leave it out: data.exclude = "
            f'["{name}"]. {meant}'
        )


def _targets(y: TableRows, settings: Encoding) -> list[TargetRecipe]:
    """Return the targets with all words of the file, so that a class is known that only the validation split has."""
    rows = conformed(y, [_wanted(field, settings) for field in y.fields], "targets of the training data")
    found = []
    for place, field in enumerate(rows.fields):
        own = _settings(field, settings)
        if field.kind == "date":
            raise DataError(
                f"the target {shortened(field.name)!r} is a date, which can't be predicted. Make a number of it, of "
                "days for example."
            )
        if field.kind == "words":
            codes = rows.column(place)
            present = np.unique(codes[~np.isnan(codes)]).astype(np.int64)
            words = own.order or [field.words[code] for code in present]
            found.append(TargetRecipe(name=field.name, kind="words", words=words))
        elif field.kind == "boolean":
            found.append(TargetRecipe(name=field.name, kind="boolean", words=list(field.words or ("false", "true"))))
        else:
            found.append(TargetRecipe(name=field.name))
    return found


class _Measured:
    """Statistics of the columns of the training split."""

    def __init__(
        self, rows: TableRows, settings: Encoding, training: Indices | None, reduction: Reduction, arithmetic: str
    ) -> None:
        self._settings, self._reduction, self._fields = settings, reduction, rows.fields
        self._rows: Rows = rows if training is None else SubsetRows(rows, training)
        self._source, self._training = rows, training
        self._chunks = Chunks(self._rows, np.float64)
        self._counts = self._sum(lambda values: (~np.isnan(values)).sum(axis=0, dtype=np.float64))
        self._means = self._measure_means(totals(0, arithmetic))
        self._present = self._measure_words()
        with np.errstate(invalid="ignore"):  # infinite values
            self._timed = self._max(lambda values: np.where(np.isnan(values), 0, values % DAY_S != 0).max(axis=0))

    def _sum(self, leaf: Callable[[Array], Array]) -> Array:
        return self._reduction.sum(len(self._chunks), lambda i: leaf(self._chunks[i]))

    def _max(self, leaf: Callable[[Array], Array]) -> Array:
        return self._reduction.max(len(self._chunks), lambda i: np.asarray(leaf(self._chunks[i]), np.float64))

    def _measure_means(self, total: Callable[[Array], Array]) -> Array:
        """Return the mean of each column, by deviations from its least value: a constant column gives exactly it."""
        with np.errstate(over="ignore", invalid="ignore"):  # infinite values; checked with the features
            least = -self._max(lambda values: -np.where(np.isnan(values), np.inf, values).min(axis=0))
            least = np.where(self._counts > 0, least, 0)
            sums = self._sum(lambda values: total(np.where(np.isnan(values), 0, values - least)))
            means: Array = least + sums / np.maximum(self._counts, 1)
        return means

    def _measure_words(self) -> dict[int, Array]:
        """Return how often each word of each column of words occurs."""
        places = [place for place, field in enumerate(self._fields) if field.kind == "words"]
        if not places:
            return {}
        ends = np.cumsum([len(self._fields[place].words) for place in places])

        def leaf(values: Array) -> Array:
            counts = []
            for place in places:
                column = values[:, place]
                codes = column[~np.isnan(column)].astype(np.int64)
                counts.append(np.bincount(codes, minlength=len(self._fields[place].words)))
            return np.concatenate(counts).astype(np.float64)

        return dict(zip(places, np.split(self._sum(leaf), ends[:-1]), strict=True))

    def columns(self) -> list[ColumnRecipe]:
        return [self._column(place, field) for place, field in enumerate(self._fields)]

    def _column(self, place: int, field: Field) -> ColumnRecipe:
        own, missing = _settings(field, self._settings), _missing(field, self._settings)
        if not self._counts[place]:
            raise DataError(
                f"inputs of the training data: column {shortened(field.name)!r} has no value in the training split. "
                f'Leave it out: data.exclude = ["{field.name}"].'
            )
        kind: ColumnKind = "number"
        categories: list[str] = []
        if field.kind == "words":
            kind = "ordered" if own.order else "one_hot"
            if kind == "one_hot" and (own.categories or self._settings.categories) == "integer":
                kind = "integer"
            counts = self._present[place]
            categories = own.order or [word for word, count in zip(field.words, counts, strict=True) if count]
        elif field.kind == "date":
            kind = "date"
        some_missing = self._counts[place] < self._rows.shape[0]
        return ColumnRecipe(
            name=field.name,
            kind=kind,
            categories=categories,
            refuses_missing=missing == "error",
            fill=self._fill(place, field, kind, categories, missing),
            indicator=missing == "indicator" and bool(some_missing),
            time=kind == "date" and bool(self._timed[place]),
        )

    def _fill(
        self, place: int, field: Field, kind: ColumnKind, categories: Sequence[str], missing: str
    ) -> float | None:
        """Return what replaces missing values. Of categories and booleans it is the most frequent one."""
        if missing == "error":
            return None
        if field.kind == "words":
            if missing == "indicator" and kind != "ordered":
                return None  # no category: the indicator says so
            counts = dict(zip(field.words, self._present[place], strict=True))
            most = max(categories, key=lambda word: counts.get(word, 0.0))  # the first of several
            return float(categories.index(most))
        if missing == "most_frequent" or field.kind == "boolean":
            values, often = np.unique(self._known(place), return_counts=True)
            return float(values[often.argmax()])
        if missing == "median":
            return float(np.median(self._known(place)))
        return float(self._means[place])

    def _known(self, place: int) -> Array:
        """Return the values of a column that are not missing: each rank finds the same among all of them."""
        column = self._source.column(place)
        column = column if self._training is None else column[self._training]
        known: Array = column[~np.isnan(column)].astype(np.float64)
        return known

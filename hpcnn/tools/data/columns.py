"""The columns of data, and a few of their samples, as they are stored."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hpcnn.data.rows import Array, Rows, SubsetRows
from hpcnn.data.source import Source
from hpcnn.data.tables.rows import Field, fields_of
from hpcnn.tools.data.facts import ColumnFacts
from hpcnn.tools.data.measure import Moments, chosen_rows, flat_rows

MOST_COLUMNS = 1000
"""Arrays of more entries a sample are shown as a whole."""
MOST_WORDS = 5
_SAMPLES, _CELLS, _CHARACTERS = 5, 12, 60
ALL = "all entries"
_KINDS = {"b": "boolean", "i": "number", "u": "number", "f": "number"}


def fields_behind(rows: Rows) -> tuple[Field, ...]:
    """Return what the columns of a table, or of a part of its rows, stand for; empty where there is none."""
    return fields_of(rows.rows if isinstance(rows, SubsetRows) else rows)


def entry_names(rows: Rows, names: Sequence[str] | None) -> list[str]:
    """Return a name for each entry of a sample: those of columns, or their places."""
    shape = rows.shape[1:]
    if names is not None and len(names) == math.prod(shape):
        return list(names)
    if len(shape) <= 1:
        return [str(place) for place in range(math.prod(shape))]
    return [str(tuple(map(int, place))).replace(" ", "") for place in np.ndindex(*shape)]


def column_facts(
    rows: Rows, moments: Moments, names: Sequence[str] | None, most_rows: int, *, whole: bool = False
) -> list[ColumnFacts]:
    """Return the columns of a table or of vectors one by one, other arrays, and on demand these, as a `whole`."""
    fields = fields_behind(rows)
    entries = math.prod(rows.shape[1:])
    if whole or len(rows.shape) > 2 or len(moments.count) != entries or (entries > MOST_COLUMNS and not fields):
        return [_numbers(ALL, _KINDS.get(rows.dtype.kind, "number"), moments.overall(), 0)]
    values = flat_rows(rows, chosen_rows(rows, most_rows)) if any(field.kind == "words" for field in fields) else None
    found = []
    for place, name in enumerate(entry_names(rows, names)):
        field = fields[place] if fields else Field(name, _KINDS.get(rows.dtype.kind, "number"))  # type: ignore[arg-type]
        if field.kind == "words" and values is not None:
            found.append(_words(field, values[:, place]))
        else:
            found.append(_numbers(field.name, field.kind, moments, place))
    return found


def _numbers(name: str, kind: str, moments: Moments, place: int) -> ColumnFacts:
    statistics = (moments.low, moments.mean, moments.high, moments.deviation)
    low, mean, high, deviation = (float(each[place]) if moments.count[place] else None for each in statistics)
    return ColumnFacts(
        name=name,
        kind=kind,
        missing=int(moments.missing[place]),
        infinite=int(moments.infinite[place]),
        low=low,
        mean=mean,
        high=high,
        deviation=deviation,
    )


def _words(field: Field, values: Array) -> ColumnFacts:
    known = values[~np.isnan(values)].astype(np.int64)
    counts = np.bincount(known, minlength=len(field.words))
    most = np.argsort(-counts, kind="stable")[:MOST_WORDS]
    return ColumnFacts(
        name=field.name,
        kind="words",
        missing=len(values) - len(known),
        distinct=int(np.count_nonzero(counts)),
        words={field.words[place]: int(counts[place]) for place in most if counts[place]},
    )


def first_samples(source: Source, x: Rows, y: Rows, letters: str) -> tuple[list[str], list[list[str]]]:
    """Return the heading and the first samples as texts, targets first; none where samples have several axes.

    Of a text, a sample is its `letters`; of long rows, the first numbers are shown.
    """
    if len(x.shape) > 2 and not letters:
        return [], []
    chosen = np.arange(min(_SAMPLES, x.shape[0]), dtype=np.int64)
    inputs, targets = (source.columns.inputs, source.columns.targets) if source.columns else (None, None)
    head: list[str] = []
    cells: list[list[str]] = [[] for _ in chosen]
    for kind, rows, own in (("target", y, targets), ("input", x, inputs)):
        values = flat_rows(rows, chosen)
        if letters:
            head.append(f"{kind}s")
            for texts, row in zip(cells, values, strict=True):
                texts.append(_characters(row, letters))
            continue
        fields = fields_behind(rows)
        labels = entry_names(rows, own)[:_CELLS]
        head += [field.name for field in fields[:_CELLS]] or [f"{kind} {label}" for label in labels]
        for texts, row in zip(cells, values, strict=True):
            texts += [_value(value, fields[place] if fields else None) for place, value in enumerate(row[:_CELLS])]
        if values.shape[1] > _CELLS:
            head.append(f"{values.shape[1] - _CELLS:,} more")
            for texts in cells:
                texts.append("…")
    return head, cells


def _characters(row: Array, letters: str) -> str:
    text = "".join(letters[int(place)] for place in row[:_CHARACTERS])
    return repr(text)[1:-1] + ("…" if len(row) > _CHARACTERS else "")


def _value(value: float, field: Field | None) -> str:
    if math.isnan(value):
        return "missing"
    if field is not None and field.kind == "words":
        return field.words[int(value)]
    if field is not None and field.kind == "boolean":
        return (field.words or ("false", "true"))[int(value)]
    if field is not None and field.kind == "date":
        return date_text(value)
    return f"{value:.6g}"


def date_text(seconds: float) -> str:
    """Return a date in ISO form, without the time at midnight.

    >>> date_text(86400.0), date_text(86460.0)
    ('1970-01-02', '1970-01-02T00:01:00')
    """
    return str(np.datetime64(int(seconds // 1), "s")).removesuffix("T00:00:00")

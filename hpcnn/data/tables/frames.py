"""Tables of a Python program: DataFrames of pandas and polars, and Arrow tables, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import numpy as np

from hpcnn.data.rows import Array
from hpcnn.data.tables.table import Column, Table
from hpcnn.errors import DataError, shortened

_NOTHING = ("NAType", "NaTType")
"""Types of what pandas has in place of missing values."""


def column_names(values: Any) -> tuple[str, ...] | None:
    """Return the column names of a DataFrame of pandas or polars or of an Arrow table; None for anything else.

    >>> column_names([[1.0, 2.0]]) is None
    True
    """
    names = getattr(values, "column_names", getattr(values, "columns", None))
    return None if names is None or len(getattr(values, "shape", ())) != 2 else tuple(map(str, names))


def frame_table(frame: Any, what: str) -> Table:
    """Return a DataFrame or an Arrow table as columns. `what` names it. DataError: a column is of no known type."""
    names = column_names(frame)
    assert names is not None
    return Table(what, tuple(array_column(name, _column(frame, place), what) for place, name in enumerate(names)))


def _column(frame: Any, place: int) -> Any:
    if hasattr(frame, "iloc"):  # pandas, where names may repeat
        return frame.iloc[:, place]
    if hasattr(frame, "to_series"):  # polars
        return frame.to_series(place)
    return frame.column(place)


def is_numeric(frame: Any) -> bool:
    """Return whether all columns of a table hold numbers or booleans as NumPy knows them."""
    return all(
        isinstance(dtype := getattr(_column(frame, place), "dtype", None), np.dtype) and dtype.kind in "biuf"
        for place in range(frame.shape[1])
    )


def array_column(name: str, given: Any, what: str) -> Column:
    """Return values of one type, as a column of a DataFrame has them. `what` names the table in messages.

    Raises:
        DataError: they are neither numbers nor booleans, words or dates.
    """
    values = _array(given)
    if values.dtype.kind in "iuf":
        return Column(name, "number", values)
    if values.dtype.kind == "b":
        return Column(name, "boolean", values)
    if values.dtype.kind == "M":
        return Column(name, "date", _seconds(values))
    if values.dtype.kind == "U":
        return _words(name, values.tolist())
    if values.dtype.kind == "O":
        return _objects(name, values.tolist(), what)
    raise DataError(
        f"column {shortened(name)!r} of {what} has type {values.dtype}; allowed are numbers, booleans, words and dates."
    )


def _array(given: Any) -> Array:
    if str(getattr(given, "dtype", "")).startswith("datetime64[ns,"):
        given = given.dt.tz_convert("UTC").dt.tz_localize(None)
    return np.asarray(given.to_numpy() if hasattr(given, "to_numpy") else given)


def _seconds(values: Array) -> Array:
    """Return dates as seconds since 1970, NaN where they are missing."""
    micros = values.astype("datetime64[us]")
    seconds = micros.astype(np.int64) / 1e6
    seconds[np.isnat(micros)] = np.nan
    return np.asarray(seconds)


def _is_missing(value: object) -> bool:
    return value is None or type(value).__name__ in _NOTHING or (isinstance(value, float) and value != value)


def _objects(name: str, values: Sequence[object], what: str) -> Column:
    known = [value for value in values if not _is_missing(value)]
    if all(isinstance(value, str) for value in known) and known:
        return _words(name, values)
    if all(isinstance(value, bool | np.bool_) for value in known) and known:
        return Column(name, "boolean", _floats(values))
    if all(isinstance(value, date) for value in known) and known:
        return Column(name, "date", np.array([_moment(value) for value in values], np.float64))
    try:
        return Column(name, "number", _floats(values))
    except (TypeError, ValueError):
        kinds = ", ".join(sorted({type(value).__name__ for value in known}))
        raise DataError(
            f"column {shortened(name)!r} of {what} holds {kinds}: allowed are numbers, booleans, words and dates, one "
            "kind in a column. Convert it, or leave it out."
        ) from None


def _floats(values: Sequence[Any]) -> Array:
    return np.array([np.nan if _is_missing(value) else _float(value) for value in values], np.float64)


def _float(value: Any) -> float:
    if isinstance(value, str | bytes):
        raise TypeError(value)
    return float(value)


def _moment(value: Any) -> float:
    if _is_missing(value):
        return np.nan
    moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day, tzinfo=UTC)
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()


def _words(name: str, values: Sequence[Any]) -> Column:
    cells = [None if _is_missing(value) else str(value).strip() or None for value in values]
    words = sorted({cell for cell in cells if cell is not None})
    place = {word: code for code, word in enumerate(words)}
    codes = np.array([-1 if cell is None else place[cell] for cell in cells], np.int32)
    return Column(name, "words", codes, tuple(words))

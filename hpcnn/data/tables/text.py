"""The kind of a column of text, found by a look at all of its cells: numbers, booleans, dates, else words."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from hpcnn.data.tables.table import Column, Kind
from hpcnn.errors import shortened

MISSING = ("", "na", "n/a", "nan", "-nan", "#n/a", "<na>", "nil", "none", "null", "?", "-", "--", ".")
"""Markers of missing values in lower case."""
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:([.,' \u00a0\u202f])\d{3})+(?:[.,]\d+)?|[+-]?\d+,\d+")
_INTEGER = re.compile(r"[+-]?[0-9]+")
EXACT = 2**53
"""Up to here float64 holds all integers."""
_FALSE, _TRUE = ("false", "no"), ("true", "yes")
_DATE = re.compile(
    r"[0-9]{4}([-/])[0-9]{2}\1[0-9]{2}"
    r"([T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.,][0-9]{1,9})?)?(Z|[+-][0-9]{2}(:?[0-9]{2})?)?)?"
)
"""ISO 8601, a part of what `datetime.fromisoformat` reads, which depends on the version of Python; or with slashes."""


def text_column(name: str, cells: Sequence[str], *, as_words: bool = False, decimal: str = ".") -> Column:
    """Return a column of the kind that its cells look like; `as_words`: of words.

    >>> text_column("age", ["3", "NA", "5"]).values.tolist()
    [3.0, nan, 5.0]
    """
    place: dict[str, int] = {}
    codes = np.fromiter((place.setdefault(cell, len(place)) for cell in cells), np.int64, len(cells))
    return coded_column(name, [*place], codes, as_words=as_words, decimal=decimal)


def coded_column(
    name: str, distinct: Sequence[str], codes: NDArray[np.int64], *, as_words: bool = False, decimal: str = "."
) -> Column:
    """Return a column of cells, of which each is the place of its text among the `distinct` ones; see `text_column`.

    Its fault says where numbers have something between the thousands, or another decimal separator.
    """
    cells = [cell.strip() for cell in distinct]
    present = np.array([not is_missing(cell) for cell in cells], np.bool_)
    known = [cell for cell, there in zip(cells, present, strict=True) if there]
    for kind, parse in () if as_words else _PARSERS:
        try:
            found = [parse(cell, decimal) for cell in known]
        except (ValueError, OverflowError):
            continue
        values = np.full(len(cells), np.nan)
        values[present] = found
        fault = _inexact(name, known, found) if kind == "number" else ""
        return Column(name, kind, values[codes], _spelt(known) if kind == "boolean" else (), fault)
    words = sorted(set(known))
    place = {word: code for code, word in enumerate(words)}
    numbers = np.array([place[cell] if there else -1 for cell, there in zip(cells, present, strict=True)], np.int32)
    return Column(name, "words", numbers[codes], tuple(words), "" if as_words else _fault(name, words))


def is_missing(cell: str) -> bool:
    """Return whether a cell says that there is no value.

    >>> is_missing(" N/A"), is_missing("0")
    (True, False)
    """
    return cell.strip().lower() in MISSING


def is_number(cell: str, decimal: str = ".") -> bool:
    """Return whether a cell holds a number.

    >>> is_number("-1e3"), is_number("age"), is_number("1_000"), is_number("1,5", ",")
    (True, False, False, True)
    """
    try:
        number_of(cell, decimal)
    except ValueError:
        return False
    return True


def number_of(cell: str, decimal: str = ".") -> float:
    """Return the number in a cell. ValueError: it is none."""
    if "_" in cell or (decimal == "," and "." in cell):
        raise ValueError(cell)
    return float(cell.replace(",", ".") if decimal == "," else cell)


def inexact_integer(name: str, value: object) -> str:
    """Return the fault of a column with an integer that floats can't tell from its neighbours."""
    return (
        f"column {shortened(name)!r} holds integers beyond 2**53, as {shortened(value, 60)}, which floats can't tell "
        "apart. Leave it out by data.exclude, or convert it to words."
    )


def _inexact(name: str, cells: Sequence[str], values: Sequence[float]) -> str:
    for cell, value in zip(cells, values, strict=True):
        if abs(value) >= EXACT and _INTEGER.fullmatch(cell) and cell.lstrip("+-0") != str(EXACT):
            return inexact_integer(name, cell)
    return ""


def _fault(name: str, words: Sequence[str]) -> str:
    odd = [word for word in words if not is_number(word)]
    if not odd or not all(map(_THOUSANDS.fullmatch, odd)):
        return ""
    return (
        f"column {shortened(name)!r} holds {shortened(odd[0])!r}: numbers need one decimal separator in the whole "
        "file, data.decimal, and nothing between thousands. Write them so, or, if they are words, set "
        f'data.columns.{shortened(name)}.kind = "category".'
    )


def _boolean(cell: str, decimal: str) -> float:
    if cell.lower() not in _FALSE + _TRUE:
        raise ValueError(cell)
    return float(cell.lower() in _TRUE)


def _spelt(cells: Sequence[str]) -> tuple[str, ...]:
    spelt = [{cell for cell in cells if (cell.lower() in _TRUE) == truth} for truth in (False, True)]
    return tuple(one for cells in spelt for one in cells) if [*map(len, spelt)] == [1, 1] else ()


def _date(cell: str, decimal: str) -> float:
    if not _DATE.fullmatch(cell):
        raise ValueError(cell)
    moment = datetime.fromisoformat(cell.replace("/", "-"))
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()


_PARSERS: tuple[tuple[Kind, Callable[[str, str], float]], ...] = (
    ("number", number_of),
    ("boolean", _boolean),
    ("date", _date),
)

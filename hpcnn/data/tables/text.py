"""The kind of a column of text, found by a look at all of its cells: numbers, booleans, dates, else words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np

from hpcnn.data.tables.table import Column, Kind

MISSING = ("", "na", "n/a", "nan", "#n/a", "<na>", "nil", "none", "null", "?", "-", "--", ".")
"""Markers of missing values in lower case."""
_FALSE, _TRUE = ("false", "no"), ("true", "yes")


def text_column(name: str, cells: Sequence[str], *, as_words: bool = False) -> Column:
    """Return a column of the kind that its cells look like; `as_words`: of words.

    >>> text_column("age", ["3", "NA", "5"]).values.tolist()
    [3.0, nan, 5.0]
    """
    cells = [cell.strip() for cell in cells]
    present = [cell.lower() not in MISSING for cell in cells]
    known = [cell for cell, there in zip(cells, present, strict=True) if there]
    if not as_words:
        for kind, parse in _PARSERS:
            try:
                found = list(map(parse, known))
            except ValueError:
                continue
            values = np.full(len(cells), np.nan)
            values[present] = found
            return Column(name, kind, values, _spelt(known) if kind == "boolean" else ())
    words = sorted(set(known))
    place = {word: code for code, word in enumerate(words)}
    codes = np.array([place[cell] if there else -1 for cell, there in zip(cells, present, strict=True)], np.int32)
    return Column(name, "words", codes, tuple(words))


def _number(cell: str) -> float:
    if "_" in cell:
        raise ValueError(cell)
    return float(cell)


def _boolean(cell: str) -> float:
    if cell.lower() not in _FALSE + _TRUE:
        raise ValueError(cell)
    return float(cell.lower() in _TRUE)


def _spelt(cells: Sequence[str]) -> tuple[str, ...]:
    spelt = [{cell for cell in cells if (cell.lower() in _TRUE) == truth} for truth in (False, True)]
    return tuple(one for cells in spelt for one in cells) if [*map(len, spelt)] == [1, 1] else ()


def _date(cell: str) -> float:
    if not cell[:4].isdigit() or len(cell) < len("2024-05-31"):
        raise ValueError(cell)
    moment = datetime.fromisoformat(cell.replace("/", "-"))
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()


_PARSERS: tuple[tuple[Kind, Callable[[str], float]], ...] = (
    ("number", _number),
    ("boolean", _boolean),
    ("date", _date),
)

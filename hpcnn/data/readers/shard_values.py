"""Targets in small files of their own: a text each, or a value in JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from hpcnn.data.rows import ArrayRows, Rows
from hpcnn.data.tables.rows import table_rows
from hpcnn.data.tables.table import Column
from hpcnn.data.tables.text import text_column
from hpcnn.errors import DataError, nearest, shortened


def value_rows(contents: Sequence[bytes], ending: str) -> Rows:
    """Return the values that files hold: numbers, words, or rows of numbers.

    Args:
        contents: that of the file of each sample.
        ending: ``json:KEY``, or that of texts.

    Raises:
        DataError: a file is no text or no JSON, lacks the key, or holds another kind of value than the others.
    """
    if not ending.startswith("json:"):
        cells = [_text(content, place, ending) for place, content in enumerate(contents)]
        return table_rows([text_column("class" if ending.lower() == "cls" else ending, cells)], flat=True)
    key = ending.removeprefix("json:")
    values = [_value(content, place, key) for place, content in enumerate(contents)]
    if isinstance(values[0], list):
        return _lists(values, key)
    return table_rows([_column(values, key)], flat=True)


def _text(content: bytes, place: int, ending: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"the file {ending!r} of sample {place}, counted from 0, is no UTF-8 text.") from None


def _value(content: bytes, place: int, key: str) -> Any:
    try:
        value = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"the JSON file of sample {place}, counted from 0, can't be read: {shortened(error)}") from None
    for name in key.split("."):
        if not isinstance(value, dict) or name not in value:
            known = list(value) if isinstance(value, dict) else []
            raise DataError(
                f"the JSON file of sample {place}, counted from 0, has no key {name!r} of {'json:' + key!r}."
                f"{nearest(name, known)} It has: {shortened(', '.join(known)) or 'none'}."
            )
        value = value[name]
    return value


def _column(values: Sequence[Any], key: str) -> Column:
    kinds = {_kind(value) for value in values} - {"missing"}
    if kinds <= {"number"} or kinds <= {"boolean"}:
        numbers = np.array([np.nan if value is None else _float(value, key) for value in values], np.float64)
        return Column(key, "boolean" if kinds == {"boolean"} else "number", numbers)
    if kinds == {"word"}:
        return text_column(key, ["" if value is None else value for value in values], as_words=True)
    held = {kind: next(place for place, value in enumerate(values) if _kind(value) == kind) for kind in sorted(kinds)}
    found = ", ".join(f"a {kind} in sample {place}" for kind, place in held.items())
    raise DataError(f"{'json:' + key!r} is {found}, counted from 0. Give numbers, words, or lists of numbers.")


def _kind(value: Any) -> str:
    if value is None:
        return "missing"
    kinds = {bool: "boolean", int: "number", float: "number", str: "word", list: "list", dict: "table"}
    return kinds[type(value)]


def _float(value: Any, key: str) -> float:
    try:
        return float(value)
    except OverflowError:
        raise DataError(f"{'json:' + key!r} is {shortened(value)}, too large for a number.") from None


def _lists(values: Sequence[Any], key: str) -> ArrayRows:
    try:
        rows = np.array(values, np.float64)
    except (ValueError, TypeError, OverflowError):
        raise DataError(
            f"{'json:' + key!r} holds lists of different lengths, or of other things than numbers. Give each sample as "
            "many numbers."
        ) from None
    return ArrayRows(rows)

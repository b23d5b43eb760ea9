"""Targets in small files of their own: a text each, or a value in JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from hpcnn.data.rows import ArrayRows, Rows
from hpcnn.data.source import unread
from hpcnn.data.tables.rows import table_rows
from hpcnn.data.tables.table import Column
from hpcnn.data.tables.text import text_column
from hpcnn.errors import DataError, nearest, shortened

_KINDS = {bool: "boolean", int: "number", float: "number", str: "word", list: "list", dict: "table"}


def value_rows(contents: Sequence[bytes], files: Sequence[object], ending: str) -> Rows:
    """Return the values that files hold: numbers, words, or rows of numbers.

    Args:
        contents: that of the file of each sample.
        files: their names, for messages.
        ending: ``json:KEY``, or that of texts.

    Raises:
        DataError: a file is no text or no JSON, lacks the key, or holds another kind of value than the others.
    """
    if not ending.startswith("json:"):
        cells = [_text(content, files, place) for place, content in enumerate(contents)]
        return table_rows([text_column("class" if ending.lower() == "cls" else ending, cells)], flat=True)
    key = ending.removeprefix("json:")
    values = [_value(content, files, place, key) for place, content in enumerate(contents)]
    if isinstance(values[0], list):
        return _lists(values, files, key)
    return table_rows([_column(values, files, key)], flat=True)


def _text(content: bytes, files: Sequence[object], place: int) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise unread(files[place], "it is no UTF-8 text") from None


def _value(content: bytes, files: Sequence[object], place: int, key: str) -> Any:
    try:
        value = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise unread(files[place], error) from None
    for name in key.split("."):
        if not isinstance(value, dict) or name not in value:
            known = list(value) if isinstance(value, dict) else []
            raise DataError(
                f"{files[place]} has no key {name!r}, but data.y = {'json:' + key!r}.{nearest(name, known)} It has: "
                f"{shortened(', '.join(known)) or 'none'}."
            )
        value = value[name]
    return value


def _column(values: Sequence[Any], files: Sequence[object], key: str) -> Column:
    kinds = [None if value is None else _KINDS[type(value)] for value in values]
    found = sorted({*filter(None, kinds)})
    if found in ([], ["number"], ["boolean"]):
        numbers = [np.nan if value is None else _number(value, files, place) for place, value in enumerate(values)]
        return Column(key, "boolean" if found == ["boolean"] else "number", np.array(numbers, np.float64))
    if found == ["word"]:
        return text_column(key, ["" if value is None else value for value in values], as_words=True)
    held = ", ".join(f"a {kind} in {files[kinds.index(kind)]}" for kind in found)
    raise DataError(f"data.y = {'json:' + key!r} is {held}. Give numbers, words, or lists of numbers.")


def _number(value: Any, files: Sequence[object], place: int) -> float:
    try:
        return float(value)
    except OverflowError:
        raise DataError(f"{files[place]} holds {shortened(value)}, which is too large a number.") from None


def _lists(values: Sequence[Any], files: Sequence[object], key: str) -> ArrayRows:
    rows: list[Any] = []
    for place, value in enumerate(values):
        try:
            rows.append(np.array(value, np.float64))
        except (ValueError, TypeError, OverflowError):
            rows.append(None)
        if rows[-1] is None or rows[-1].shape != rows[0].shape:
            raise DataError(
                f"{files[place]}: {key!r} is {shortened(value)}, no list of as many numbers as in the first sample."
            )
    return ArrayRows(np.stack(rows))

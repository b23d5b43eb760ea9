"""Tables in text files: large ones by Arrow's parser, where it is installed, others by NumPy's and Python's."""

from __future__ import annotations

import importlib.util
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from hpcnn.data.columns import counted, stripped
from hpcnn.data.source import check_memory
from hpcnn.data.tables.dialect import Text, found_delimiter, open_text
from hpcnn.data.tables.parts import Part, constant_columns
from hpcnn.data.tables.table import Column, Table, check_names
from hpcnn.data.tables.text import EXACT, MISSING, coded_column, is_missing, is_number, text_column
from hpcnn.errors import DataError, shortened
from hpcnn.job.data import Csv

COUNTED_LEAST = 3
"""With fewer columns, a first line that numbers them from 0 may also be a row of data."""
_LOOK_ROWS = 50
_BLOCK_BYTES = 2**22
_ENTRY_BYTES = 8
ARROW_LEAST = 2**20
"""Bytes of text from which on Arrow's parser is worth its import."""
_SPELLINGS = sorted(
    {spelt for one in MISSING for spelt in (one, one.upper(), one.title(), one.capitalize(), one.replace("nan", "NaN"))}
)


@dataclass(frozen=True)
class _File:
    """The text of one part, and where its rows begin."""

    text: Text
    names: tuple[str, ...] | None
    width: int
    head: int
    """Number of lines before the first row."""
    values: Mapping[str, str]
    """Columns of one value."""

    @property
    def path(self) -> str:
        return self.text.path

    @property
    def start(self) -> int:
        """The place of the first byte below the header."""
        at = 0
        for _ in range(self.head):
            at = self.text.content.find(b"\n", at) + 1
        return at

    def cells(self) -> list[list[str]]:
        """Return the rows. DataError: one has another number of cells."""
        lines = self.text.lines()
        if self.names is not None:
            next(lines)
        found = []
        for number, cells in lines:
            if len(cells) != self.width:
                raise DataError(
                    f"{self.path}, line {number}: {len(cells)} cells, but "
                    f"{'the header' if self.names else 'the first line'} has {self.width}. Each line needs as many; "
                    f"the separator is {self.text.delimiter!r}."
                )
            found.append(cells)
        return found

    def first_cells(self) -> list[list[str]]:
        """Return the cells of a few rows."""
        lines = islice(self.text.lines(), 1 if self.names else 0, _LOOK_ROWS)
        return [cells for _, cells in lines if len(cells) == self.width]

    def order(self, names: Sequence[str] | None) -> list[int]:
        """Return where the columns of these names are; names that repeat go by position."""
        if self.names is None or names is None:
            return [*range(self.width)]
        theirs = sorted(range(self.width), key=names.__getitem__)
        places = dict(zip(theirs, sorted(range(self.width), key=self.names.__getitem__), strict=True))
        return [places[place] for place in range(self.width)]


def read_csv(parts: Sequence[Part], data: Csv, wanted: Sequence[str], path: str) -> Table:
    """Return the columns of text files, one below the other; `path` names them together.

    Args:
        parts: the files.
        data: what is known of how they are written, and of the kinds of columns.
        wanted: names of columns; a first line of numbers counts as names only if it contains all of them.
        path: names the table in messages.

    Raises:
        DataError: a file is empty or not text, a line is ragged, or the files have other columns.
    """
    files = [_opened(part, data, wanted) for part in parts]
    first = files[0]
    for file in files:
        if file.width != first.width or sorted(file.names or ()) != sorted(first.names or ()):
            raise DataError(
                f"the columns of {file.path} ({_listed(file)}) are not those of {first.path} ({_listed(first)}). All "
                "parts of a table need the same."
            )
    rows = sum(file.text.content.count(b"\n") for file in files)
    check_memory(rows * first.width * _ENTRY_BYTES, path, "Use a part of it.")
    words = {name for name, settings in data.columns.items() if settings.kind == "category"}
    decimal = "," if any(file.text.decimal == "," for file in files) else "."
    reading = _Reading(files, words, decimal)
    large = sum(len(file.text.content) for file in files) >= ARROW_LEAST
    columns = reading.by_arrow() if large and importlib.util.find_spec("pyarrow") is not None else None
    return _without_nothing(Table(path, tuple(columns or reading.by_python()), first.names is not None))


def _without_nothing(table: Table) -> Table:
    """Return a table without columns that have neither a name nor a value, as lines that end in a separator give."""
    kept = tuple(one for one in table.columns if one.name or not np.isnan(one.values).all())
    note = f"{table.path}: left out a column without name and values: its lines end in a separator."
    return Table(table.path, kept, table.named, (note,)) if len(kept) < len(table.columns) else table


def _listed(file: _File) -> str:
    return shortened(", ".join(file.names)) if file.names else f"{file.width} without names"


def _opened(part: Part, data: Csv, wanted: Sequence[str]) -> _File:
    text = open_text(part.file, data)
    lines = text.lines()
    names, head = None, 0
    if data.header:
        head, cells = next(lines, (0, []))
        names = stripped(cells)
        if only_numbers(names) and not (wanted and set(wanted) <= set(names)):
            raise _no_names(text.path, wanted)
        check_names(text.path, names)
    _, row = next(lines, (0, []))
    if not row:
        raise DataError(f"{text.path} holds no row of data{' below its header' if names else ''}.")
    if not data.comment:
        _check_comments(text, names, row)
    width = len(names or row)
    _check_delimiter(text, data.delimiter, width)
    return _File(text, names, width, head, part.values)


def _check_delimiter(text: Text, given: str, width: int) -> None:
    """Raise DataError if by the separator of the job there is one column, and by another one there are several."""
    if not given or width > 1:
        return
    found = found_delimiter(text.content)
    if found != given and (found != "," or b"," in text.content.partition(b"\n")[0]):
        raise DataError(
            f"{text.path}: the cells seem to be separated by {found!r}, but data.delimiter is {given!r}. Set "
            f"data.delimiter = {found!r}, or leave it out: it is found."
        )


def only_numbers(cells: Sequence[str]) -> bool:
    """Return whether a line is a row of numbers, some of which may be missing, and not 0, 1, 2, ...

    Those are the names that pandas gives the columns of an array.
    """
    if len(cells) >= COUNTED_LEAST and counted(stripped(cells)):
        return False
    return any(map(is_number, cells)) and all(is_number(cell) or is_missing(cell) for cell in cells)


def _no_names(path: str, wanted: Sequence[str]) -> DataError:
    by_name = "" if wanted else "If these are names, give data.targets by name. If not: "
    more = f" ({shortened(', '.join(wanted))} among them)" if wanted else ""
    return DataError(
        f"{path}: the first line, taken for the names of the columns, holds only numbers. {by_name}"
        f"Set data.header = false in the job, or write the names of the columns in a line above them{more}."
    )


def _check_comments(text: Text, names: Sequence[str] | None, row: Sequence[str]) -> None:
    """Raise DataError for a line that begins as comments do; "#a,b" are names where the first row suits them."""
    number = 0
    if b"#" not in text.content:
        return
    if names and names[0].startswith("#") and (len(row) != len(names) or not any(map(is_number, row))):
        number = next(text.lines())[0]
    elif b"\n#" in text.content or (not names and text.content.startswith(b"#")):
        lines = islice(text.lines(), 1 if names else 0, None)
        number = next((number for number, cells in lines if cells[0].startswith("#")), 0)
    if number:
        raise DataError(
            f'{text.path}, line {number} begins with "#". If that is a comment, set data.comment = "#". If it is none, '
            'set it to what comments would begin with, as "//".'
        )


@dataclass(frozen=True)
class _Reading:
    """Reads the cells of files that have the same columns."""

    files: Sequence[_File]
    words: set[str]
    """Columns of words, whatever they look like."""
    decimal: str

    @property
    def names(self) -> tuple[str, ...]:
        first = self.files[0]
        return first.names or tuple(map(str, range(first.width)))

    def by_arrow(self) -> list[Column] | None:
        """Return the columns; None where Arrow can't read the rows, and Python may, or has the better message."""
        import pyarrow as arrow

        numeric, before = self._numeric(), -1
        tables: list[Any] = []
        while len(numeric) != before:  # else a later file had a word among numbers
            before = len(numeric)
            tables = [self._arrow_table(file, numeric) for file in self.files]
        if None in tables:
            return None
        whole = arrow.concat_tables(tables)
        numbers = {place: whole.column(place).to_numpy() for place in numeric}
        if any(map(_may_be_inexact, numbers.values())):
            return None
        columns = []
        for place, name in enumerate(self.names):
            if place in numeric:
                columns.append(Column(name, "number", numbers[place]))
            else:
                coded = whole.column(place).dictionary_encode().combine_chunks()
                codes = coded.indices.to_numpy().astype(np.int64)
                columns.append(self._column(name, coded.dictionary.to_pylist(), codes))
        return columns + constant_columns([file.values for file in self.files], [table.num_rows for table in tables])

    def by_python(self) -> list[Column]:
        """Return the same columns without Arrow."""
        first, names = self.files[0], self.names
        values = _numbers(first) if len(self.files) == 1 and not self.words and self.decimal == "." else None
        if values is not None:
            columns = [Column(name, "number", values[:, place]) for place, name in enumerate(names)]
            return columns + constant_columns([first.values], [len(values)])
        rows, counts = [], []
        for file in self.files:
            order, found = file.order(first.names), file.cells()
            rows += [[cells[place] for place in order] for cells in found]
            counts.append(len(found))
        columns = [
            text_column(name, cells, as_words=name in self.words, decimal=self.decimal)
            for name, cells in zip(names, zip(*rows, strict=True), strict=True)
        ]
        return columns + constant_columns([file.values for file in self.files], counts)

    def _column(self, name: str, distinct: list[str], codes: Any) -> Column:
        return coded_column(name, distinct, codes, as_words=name in self.words, decimal=self.decimal)

    def _numeric(self) -> set[int]:
        """Return the columns that hold numbers in the first rows, as Arrow reads them."""
        if any(_has_odd_nan(file.text.content) for file in self.files):
            return set()
        columns = [*zip(*self.files[0].first_cells(), strict=True)]
        return {
            place
            for place, (name, cells) in enumerate(zip(self.names, columns, strict=False))
            if name not in self.words and all(self._is_plain(cell) for cell in cells)
        }

    def _is_plain(self, cell: str) -> bool:
        return cell in _SPELLINGS or is_number(cell, self.decimal)

    def _arrow_table(self, file: _File, numeric: set[int]) -> Any:
        """Return the columns of a part in the order of the first one, numbers and text; None if there is a bad line.

        Columns that hold a word are taken out of `numeric`.
        """
        import pyarrow as arrow
        from pyarrow import csv as arrow_csv

        order, quoted = file.order(self.files[0].names), b'"' in file.text.content
        names = [str(order.index(place)) for place in range(file.width)]
        types = {str(place): arrow.float64() if place in numeric else arrow.string() for place in range(file.width)}
        try:
            table = arrow_csv.read_csv(
                arrow.BufferReader(arrow.py_buffer(file.text.content)[file.start :]),
                arrow_csv.ReadOptions(use_threads=False, column_names=names, block_size=_BLOCK_BYTES),
                arrow_csv.ParseOptions(delimiter=file.text.delimiter, newlines_in_values=quoted),
                arrow_csv.ConvertOptions(
                    column_types=types, null_values=_SPELLINGS, strings_can_be_null=False, decimal_point=self.decimal
                ),
            )
        except arrow.ArrowInvalid as error:
            failed = re.match(r"In CSV column #(\d+)", str(error))
            place = order.index(int(failed[1])) if failed else -1
            if place not in numeric:
                return None
            numeric.remove(place)
            return self._arrow_table(file, numeric)
        last = table.column(file.width - 1)[-1].as_py()
        if quoted and isinstance(last, str) and last.endswith("\n"):
            file.cells()  # the quotes may be open
        return table.select([*map(str, range(file.width))])


def _has_odd_nan(content: bytes) -> bool:
    """Return whether a text has NaN as in C, "nan(1)", which Arrow reads as a number."""
    if b"(" not in content or not (b"n(" in content or b"N(" in content):  # in the order of their speed
        return False
    return re.search(rb"(?i)nan\(", content) is not None


def _numbers(file: _File) -> Any:
    """Return the numbers of a file of nothing else; None of another one."""
    rows = io.TextIOWrapper(io.BytesIO(file.text.content[file.start :]), "utf-8")
    try:
        values = np.loadtxt(rows, np.float64, None, file.text.delimiter, ndmin=2, quotechar='"')
    except ValueError:
        return None
    values[np.isnan(values)] = np.nan  # with one sign
    return values if values.shape[1] == file.width and not _may_be_inexact(values) else None


def _may_be_inexact(values: Any) -> bool:
    """Return whether there may be integers that floats can't tell apart: the text of the cells shows it."""
    finite = values[np.isfinite(values)]
    return bool(finite.size) and float(np.abs(finite).max()) >= EXACT

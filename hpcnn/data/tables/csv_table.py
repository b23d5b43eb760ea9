"""Tables in text files: one line a row, by Arrow's parser where it is installed, else by NumPy's and Python's."""

from __future__ import annotations

import csv
import importlib.util
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from hpcnn.data.columns import counted, stripped
from hpcnn.data.source import unread
from hpcnn.data.tables.dialect import Text, found_delimiter, open_text
from hpcnn.data.tables.parts import Part
from hpcnn.data.tables.table import Column, Table
from hpcnn.data.tables.text import MISSING, coded_column, is_number, text_column
from hpcnn.errors import DataError, shortened
from hpcnn.job.data import Csv

COUNTED_LEAST = 3
"""With fewer columns, a first line that numbers them from 0 may also be a row of data."""
_LOOK_ROWS = 50
_BLOCK_BYTES = 2**26
_SPELLINGS = sorted({spelt for marker in MISSING for spelt in (marker, marker.upper(), marker.title(), marker.capitalize())})


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

    def rows(self) -> bytes:
        """Return the text below the header."""
        at = 0
        for _ in range(self.head):
            at = self.text.content.find(b"\n", at) + 1
        return self.text.content[at:]

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
    files = []
    for part in parts:
        try:
            files.append(_opened(part, data, wanted))
        except csv.Error as error:
            raise unread(part.file, f"no text of comma-separated values ({error})") from None
    first = files[0]
    for file in files:
        if file.width != first.width or {*(file.names or ())} != {*(first.names or ())}:
            raise DataError(
                f"the columns of {file.path} ({_listed(file)}) are not those of {first.path} ({_listed(first)}). All "
                "parts of a table need the same."
            )
    words = {name for name, settings in data.columns.items() if settings.kind == "category"}
    columns = _by_numpy(files, words) if importlib.util.find_spec("pyarrow") is None else _by_arrow(files, words)
    return Table(path, tuple(columns), first.names is not None)


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
    number, row = next(lines, (0, []))
    if not row:
        raise DataError(f"{text.path} holds no row of data{' below its header' if names else ''}.")
    _check_comments(text, names, number, row)
    width = len(names or row)
    found = found_delimiter(text.content) if width == 1 and data.delimiter else data.delimiter
    if found not in (data.delimiter, ","):
        other = found
    elif width == 1 and data.delimiter not in ("", ",") and b"," in text.content.partition(b"\n")[0]:
        other = ","
    else:
        return _File(text, names, width, head, part.values)
    raise DataError(
        f"{text.path}: the cells seem to be separated by {other!r}, but data.delimiter is {data.delimiter!r}. Set "
        f"data.delimiter = {other!r}, or leave it out: it is found."
    )


def only_numbers(cells: Sequence[str]) -> bool:
    """Return whether a line is a row of numbers, some of which may be missing, and not 0, 1, 2, ...

    Those are the names that pandas gives the columns of an array.
    """
    if len(cells) >= COUNTED_LEAST and counted(stripped(cells)):
        return False
    return any(map(is_number, cells)) and all(is_number(cell) or cell.strip().lower() in MISSING for cell in cells)


def _no_names(path: str, wanted: Sequence[str]) -> DataError:
    by_name = "" if wanted else "If these are names, give data.targets by name. If not: "
    more = f" ({shortened(', '.join(wanted))} among them)" if wanted else ""
    return DataError(
        f"{path}: the first line, taken for the names of the columns, holds only numbers. {by_name}"
        f"Set data.header = false in the job, or write the names of the columns in a line above them{more}."
    )


def _check_comments(text: Text, names: tuple[str, ...] | None, number: int, row: Sequence[str]) -> None:
    """Raise DataError for a line that begins as comments do; of the first one "#a,b" may be names."""
    if b"#" not in text.content:
        return
    suspicious = row[0].lstrip().startswith("#")
    if names and names[0].startswith("#") and (len(row) != len(names) or not any(map(is_number, row))):
        number, suspicious = 1, True
    if not suspicious:
        lines = text.lines()
        number = next((n for n, cells in islice(lines, 1, None) if cells[0].lstrip().startswith("#")), 0)
    if number:
        raise DataError(
            f'{text.path}, line {number} begins with \'#\'. If that is a comment, set data.comment = "#", or delete it.'
        ) if suspicious or number else None


def _by_arrow(files: Sequence[_File], words: set[str]) -> list[Column]:
    import pyarrow as arrow

    order = [*map(str, range(files[0].width))]
    numbers = {place for place in order if _looks_numeric(files[0], int(place), words)}
    for chosen in (numbers, set()) if numbers else (set(),):
        try:
            tables = [_arrow_table(file, chosen) for file in files]
            break
        except arrow.ArrowInvalid as error:
            reason = error
    else:
        for file in files:
            file.cells()  # has the number of the line
        raise unread(files[0].path, reason)
    whole = arrow.concat_tables(_in_order(file, files[0], table) for file, table in zip(files, tables, strict=True))
    columns = []
    for place, name in enumerate(files[0].names or order):
        column = whole.column(place)
        if str(place) in chosen:
            columns.append(Column(name, "number", np.array(column.to_numpy())))
            continue
        coded = column.dictionary_encode().combine_chunks()
        coded = coded.chunk(0) if isinstance(coded, arrow.ChunkedArray) else coded
        codes = coded.indices.to_numpy().astype(np.int64)
        columns.append(_column(name, coded.dictionary.to_pylist(), codes, files, words))
    return columns + _constant(files, [table.num_rows for table in tables])


def _column(name: str, distinct: list[str], codes: Any, files: Sequence[_File], words: set[str]) -> Column:
    try:
        return coded_column(name, distinct, codes, as_words=name in words, decimal=files[0].text.decimal)
    except DataError as error:
        raise DataError(f"{files[0].path}: {error}") from None


def _looks_numeric(file: _File, place: int, words: set[str]) -> bool:
    if file.names and file.names[place] in words:
        return False
    lines = islice(file.text.lines(), 1 if file.names else 0, _LOOK_ROWS)
    cells = [row[place].strip() for _, row in lines if place < len(row)]
    comma = file.text.decimal == ","
    return all(is_number(cell.replace(",", ".") if comma else cell) or cell.lower() in MISSING for cell in cells)


def _arrow_table(file: _File, numbers: set[str]) -> Any:
    import pyarrow as arrow
    from pyarrow import csv as arrow_csv

    rows, order = file.rows(), [*map(str, range(file.width))]
    return arrow_csv.read_csv(
        arrow.BufferReader(rows),
        arrow_csv.ReadOptions(use_threads=False, column_names=order, block_size=_BLOCK_BYTES),
        arrow_csv.ParseOptions(delimiter=file.text.delimiter, newlines_in_values=b'"' in rows),
        arrow_csv.ConvertOptions(
            column_types={place: arrow.float64() if place in numbers else arrow.string() for place in order},
            null_values=_SPELLINGS,
            strings_can_be_null=False,
            decimal_point=file.text.decimal,
        ),
    )


def _in_order(file: _File, first: _File, table: Any) -> Any:
    """Return the columns of a part in the order of the first one."""
    if file.names == first.names or file.names is None or first.names is None:
        return table
    chosen = [table.column(file.names.index(name)) for name in first.names]
    return type(table).from_arrays(chosen, names=table.column_names)


def _constant(files: Sequence[_File], counts: Sequence[int]) -> list[Column]:
    """Return the columns that the names of folders give."""
    codes = np.repeat(np.arange(len(files)), counts)
    return [coded_column(name, [file.values[name] for file in files], codes) for name in files[0].values]


def _by_numpy(files: Sequence[_File], words: set[str]) -> list[Column]:
    first = files[0]
    names = first.names or tuple(map(str, range(first.width)))
    values = _numbers(first) if len(files) == 1 and not words else None
    if values is not None:
        columns = [Column(name, "number", values[:, place]) for place, name in enumerate(names)]
        return columns + _constant(files, [len(values)])
    rows, counts = [], []
    for file in files:
        places = [file.names.index(name) for name in names] if file.names and first.names else range(file.width)
        found = file.cells()
        rows += [[cells[place] for place in places] for cells in found]
        counts.append(len(found))
    columns = []
    for name, cells in zip(names, zip(*rows, strict=True), strict=True):
        try:
            columns.append(text_column(name, cells, as_words=name in words, decimal=first.text.decimal))
        except DataError as error:
            raise DataError(f"{first.path}: {error}") from None
    return columns + _constant(files, counts)


def _numbers(file: _File) -> Any:
    """Return the numbers of a file of nothing else; None of another one."""
    if file.text.decimal == ",":
        return None
    rows = io.TextIOWrapper(io.BytesIO(file.rows()), "utf-8")
    try:
        values = np.loadtxt(rows, np.float64, None, file.text.delimiter, ndmin=2, quotechar='"')
    except ValueError:
        return None
    return values if values.shape[1] == file.width else None

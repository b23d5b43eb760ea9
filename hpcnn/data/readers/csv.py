"""Reader of CSV files of numbers: NumPy's C parser, and a slower scan to locate errors."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hpcnn.data.columns import Columns, counted, stripped
from hpcnn.data.readers.csv_text import ENCODING, explain, is_number, not_text, read_lines
from hpcnn.data.readers.reader import TableReader
from hpcnn.data.source import unread
from hpcnn.data.tables.table import Column, Table
from hpcnn.data.tables.text import MISSING, text_column
from hpcnn.errors import DataError, shortened
from hpcnn.job import data as schema

COUNTED_LEAST = 3
"""With fewer columns, a first line that numbers them from 0 may also be a row of data."""
PACKED = (".gz", ".bz2", ".xz")
"""Endings of files that NumPy would decompress, whatever their contents and size."""


def _header(path: Path, data: schema.Csv, wanted: Sequence[str]) -> tuple[tuple[str, ...] | None, int, int]:
    """Return the names of the columns, the number of lines before the first row, and the number of columns.

    A first line of numbers counts as names only if it contains all that are `wanted`.
    """
    lines = read_lines(path, data.delimiter)
    names, skip = None, 0
    if data.header:
        skip, cells = next(lines, (0, []))
        names = stripped(cells)
        if _only_numbers(names) and not (wanted and set(wanted) <= set(names)):
            by_name = "" if wanted else "If these are names, give data.targets by name. If not: "
            more = f" ({shortened(', '.join(wanted))} among them)" if wanted else ""
            raise DataError(
                f"{path}: the first line, taken for the names of the columns, holds only numbers. {by_name}"
                f"Set data.header = false in the job, or write the names of the columns in a line above them{more}."
            )
    _, first = next(lines, (0, []))
    if not first:
        raise DataError(f"{path} holds no row of data{' below its header' if names else ''}.")
    return names, skip, len(names or first)


def _only_numbers(cells: Sequence[str]) -> bool:
    """Return whether a line is a row of numbers, some of which may be missing, and not 0, 1, 2, ...

    Those are the names that pandas gives the columns of an array.
    """
    if len(cells) >= COUNTED_LEAST and counted(stripped(cells)):
        return False
    return any(map(is_number, cells)) and all(is_number(cell) or cell.strip().lower() in MISSING for cell in cells)


def read_table(path: Path, data: schema.Csv, wanted: Sequence[str] = ()) -> Table:
    """Return the columns of a CSV file; its header, if it has one, names the columns that are `wanted`.

    Raises:
        DataError: the file is empty or not text, or a line is ragged.
    """
    if path.suffix in PACKED:
        raise DataError(f"{path} is compressed, by its name. Decompress it: CSV files are read as plain text.")
    try:
        names, skip, width = _header(path, data, wanted)
        columns = _numbers(path, data, names, skip, width) or _words(path, data, names, width)
    except UnicodeDecodeError as error:
        raise not_text(path, error) from None
    except csv.Error as error:
        raise unread(path, f"no UTF-8 text of comma-separated values ({error})") from None
    except OSError as error:
        raise unread(path, error.strerror or error) from None
    return Table(str(path), tuple(columns), names is not None)


def _numbers(path: Path, data: schema.Csv, names: tuple[str, ...] | None, skip: int, width: int) -> list[Column] | None:
    """Return the columns of a file of numbers alone; None of another one."""
    try:
        values = np.loadtxt(
            path, np.float64, None, data.delimiter, skiprows=skip, ndmin=2, encoding=ENCODING, quotechar='"'
        )
    except ValueError:
        if b"\0" in path.read_bytes():
            raise unread(
                path, "it holds zero bytes. Is the file UTF-16? Convert it: iconv -f UTF-16 -t UTF-8"
            ) from None
        explain(path, data, names, width)
        return None
    if values.shape[1] != width:
        explain(path, data, names, width)
    return [Column(name, "number", values[:, place]) for place, name in enumerate(names or map(str, range(width)))]


def _words(path: Path, data: schema.Csv, names: tuple[str, ...] | None, width: int) -> list[Column]:
    """Return the columns of a file with words in it."""
    lines = read_lines(path, data.delimiter)
    if data.header:
        next(lines)
    cells = zip(*(row for _, row in lines), strict=True)
    kinds = {name: settings.kind for name, settings in data.columns.items()}
    return [
        text_column(name, column, as_words=kinds.get(name) == "category")
        for name, column in zip(names or map(str, range(width)), cells, strict=True)
    ]


class CsvReader(TableReader[schema.Csv]):
    """Reads CSV files."""

    section, endings = schema.Csv, (".csv",)

    def table(self, path: Path, data: schema.Csv, wanted: Sequence[str] = ()) -> Table:
        """Return the columns of a file."""
        return read_table(path, data, wanted)

    def settings_for(self, path: str, columns: Columns | None) -> schema.Csv:
        """Return settings for a file that the job does not describe: a first line with a word in it is a header.

        Raises:
            DataError: the first line holds numbers, and the model's `columns` are named so.
        """
        try:
            _, first = next(read_lines(Path(path), ","), (0, []))
        except (UnicodeDecodeError, csv.Error, OSError):
            first = []  # `read_table` has the better message
        if columns and set(columns.inputs) <= {*stripped(first)} and _only_numbers(first):
            raise DataError(
                f"{path}: the first line may be a row of numbers or the names of the columns, which the training data "
                "had numbers for. Give the inputs as a .npy file."
            )
        return schema.Csv(path=path, targets=[], header=not _only_numbers(first))

    def has_names(self, data: schema.Csv) -> bool:
        """Return whether the first line names the columns."""
        return data.header

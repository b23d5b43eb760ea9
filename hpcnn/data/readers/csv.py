"""Reader of CSV files of numbers: NumPy's C parser, and a slower scan to locate errors."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpcnn.data.columns import Columns, counted, named_columns, stripped
from hpcnn.data.readers.csv_text import ENCODING, explain, is_number, not_text, read_lines
from hpcnn.data.readers.reader import TableReader
from hpcnn.data.rows import Array, ArrayRows
from hpcnn.data.source import NAME_TARGETS, Inputs, Source, unread
from hpcnn.errors import DataError, JobError, shortened, unknown_name
from hpcnn.job import data as schema

COUNTED_LEAST = 3
"""With fewer columns, a first line that numbers them from 0 may also be a row of data."""
PACKED = (".gz", ".bz2", ".xz")
"""Endings of files that NumPy would decompress, whatever their contents and size."""
MISSING = ("", "na", "n/a", "#n/a", "<na>", "nil", "none", "null", "?", "-", "--", ".")
"""Markers of missing values in lower case; nan is a number."""


@dataclass(frozen=True, eq=False)
class Table:
    """The numbers of a file, shape (n, columns), and the names of its columns if it has a header."""

    path: Path
    names: tuple[str, ...] | None
    values: Array

    @property
    def width(self) -> int:
        """Number of columns."""
        return int(self.values.shape[1])

    def without(self, positions: Sequence[int]) -> tuple[Array, tuple[str, ...] | None]:
        """Return the columns that are not at `positions`, and their names."""
        kept = [place for place in range(self.width) if place not in positions]
        if not kept:
            raise DataError(f"{self.path} has {self.width} columns and all are targets: no input is left.")
        return self.values[:, kept], self.names and tuple(self.names[place] for place in kept)


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
    """Return the numbers of a CSV file as float64; its header, if it has one, names the columns that are `wanted`.

    Raises:
        DataError: the file is empty or not text, or a line is ragged or has a cell that is not a number.
    """
    if path.suffix in PACKED:
        raise DataError(f"{path} is compressed, by its name. Decompress it: CSV files are read as plain text.")
    try:
        names, skip, width = _header(path, data, wanted)
        try:
            values = np.loadtxt(
                path, np.float64, None, data.delimiter, skiprows=skip, ndmin=2, encoding=ENCODING, quotechar='"'
            )
        except ValueError as error:
            explain(path, data, names, width)
            raise unread(path, error) from None
        if values.shape[1] != width:
            explain(path, data, names, width)
    except UnicodeDecodeError as error:
        raise not_text(path, error) from None
    except csv.Error as error:
        raise unread(path, f"no UTF-8 text of comma-separated values ({error})") from None
    except OSError as error:
        raise unread(path, error.strerror or error) from None
    return Table(path, names, values)


def target_positions(table: Table, targets: Sequence[str | int]) -> list[int]:
    """Return the positions from 0 of the target columns.

    Raises:
        JobError: a target is a name, but the file has no header.
        DataError: a column is missing, ambiguous, or given twice.
    """
    positions = []
    for target in targets:
        if isinstance(target, str):
            if table.names is None:
                raise JobError(
                    f"data.targets names column {target!r}, but with data.header = false columns have no names. "
                    "Give positions from 0 (-1 is the last)."
                )
            if target not in table.names:
                unknown_name(f"column in {table.path}", target, table.names, DataError, NAME_TARGETS)
            if table.names.count(target) > 1:
                raise DataError(f"{table.path}: {target!r} names several columns. Give data.targets by position.")
            positions.append(table.names.index(target))
        elif -table.width <= target < table.width:
            positions.append(target % table.width)
        else:
            raise DataError(
                f"data.targets: no column {target} in {table.path}, which has {table.width} columns. "
                f"Allowed are {-table.width} to {table.width - 1}."
            )
    if len(set(positions)) < len(positions):
        raise DataError(f"data.targets = {list(targets)} names one column of {table.path} twice.")
    return positions


class CsvReader(TableReader[schema.Csv]):
    """Reads CSV files."""

    section, endings = schema.Csv, (".csv",)

    def load(self, path: Path, data: schema.Csv) -> Source:
        """Read the inputs and targets of a file."""
        table = read_table(path, data, _named(data.targets))
        positions = target_positions(table, data.targets)
        x, names = table.without(positions)
        y = table.values[:, positions[0] if len(positions) == 1 else positions]
        columns = named_columns(names, [table.names[place] for place in positions]) if names and table.names else None
        return Source(ArrayRows(x), ArrayRows(y), columns=columns)

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

    def read_inputs(self, path: Path, data: schema.Csv, columns: Columns | None, features: int | None) -> Inputs:
        """Read inputs in the order of the model's `columns`, if it and the file have names; see `Reader.read_inputs`.

        Else read all columns but the targets, which the file may have or not have. Targets given by position are taken
        to be present, unless the file has exactly `features` columns.
        """
        table = read_table(path, data, columns.inputs if columns else _named(data.targets))
        if columns is not None and table.names is not None:
            return Inputs(ArrayRows(table.values[:, columns.places(table.names, str(path))]), columns.inputs)
        names = table.names or ()
        present: list[str | int] = list(data.targets)
        if names and all(isinstance(target, str) for target in present):
            present = [target for target in present if target in names]
        elif table.width == features:
            present = []
        values, inputs = table.without(target_positions(table, present))
        return Inputs(ArrayRows(values), None if inputs is None or counted(inputs) else inputs)


def _named(targets: Sequence[str | int]) -> list[str]:
    return [target for target in targets if isinstance(target, str)]

"""Reader of CSV files of numbers: NumPy's C parser, and a second look at the file where that finds fault."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpcnn.data.rows import Array, ArrayRows
from hpcnn.data.source import Source, resolve, unread
from hpcnn.errors import DataError, JobError, shortened, unknown_name
from hpcnn.job import data as schema

ENCODING = "utf-8-sig"
"""UTF-8, with or without the mark at the beginning that spreadsheets write."""
PACKED = (".gz", ".bz2", ".xz")
"""Endings of files that NumPy would unpack, whatever they hold and grow to."""


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


def _lines(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each line that is not blank: its number, from 1, and its cells."""
    with path.open(encoding=ENCODING, newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        for cells in reader:
            if cells:
                yield reader.line_num, cells


def is_number(cell: str) -> bool:
    """Return whether a cell holds a number.

    >>> is_number("-1e3"), is_number("age")
    (True, False)
    """
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _label(names: Sequence[str] | None, place: int) -> str:
    return f"column {shortened(names[place])!r}" if names else f"column {place}"


def _explain(path: Path, data: schema.Csv, names: Sequence[str] | None, width: int) -> None:
    """Raise DataError for the first line that is no row of `width` numbers, if there is one."""
    lines = _lines(path, data.delimiter)
    if data.header:
        next(lines)
    for number, cells in lines:
        if len(cells) != width:
            raise DataError(
                f"{path}, line {number}: {len(cells)} cells, but {'the header' if names else 'the first line'} has "
                f"{width}. Each line needs as many; data.delimiter is {data.delimiter!r}."
            )
        for place, cell in enumerate(cells):
            if not is_number(cell):
                what = f"{shortened(cell)!r} is not a number" if cell.strip() else "the cell is empty"
                hint = " If the first line names the columns, set data.header = true." if not names else ""
                raise DataError(
                    f"{path}, line {number}, {_label(names, place)}: {what}. Only numbers are read: turn words into "
                    f"numbers, and fill or drop what is missing.{hint}"
                )


def _header(path: Path, data: schema.Csv) -> tuple[tuple[str, ...] | None, int, int]:
    """Return the names of the columns, the number of lines before the first row, and the number of columns."""
    lines = _lines(path, data.delimiter)
    names, skip = None, 0
    if data.header:
        skip, cells = next(lines, (0, []))
        names = tuple(cell.strip() for cell in cells)
        by_name = any(isinstance(target, str) for target in data.targets)
        if names and not by_name and all(map(is_number, names)):
            raise DataError(
                f"{path}: the first line, taken for the names of the columns, holds only numbers. "
                "Set data.header = false, or give data.targets by name."
            )
    _, first = next(lines, (0, []))
    if not first:
        raise DataError(f"{path} holds no row of data{' below its header' if names else ''}.")
    return names, skip, len(names or first)


def read_table(path: Path, data: schema.Csv) -> Table:
    """Return the numbers of a CSV file as float64.

    Raises:
        DataError: empty, not text, a ragged line, or a cell that is no number (each with its line).
    """
    if path.suffix in PACKED:
        raise DataError(f"{path} is packed, by its name. Unpack it: CSV files are read as plain text.")
    try:
        names, skip, width = _header(path, data)
        try:
            values = np.loadtxt(
                path, np.float64, None, data.delimiter, skiprows=skip, ndmin=2, encoding=ENCODING, quotechar='"'
            )
        except ValueError as error:
            _explain(path, data, names, width)
            raise unread(path, error) from None
        if values.shape[1] != width:
            _explain(path, data, names, width)
    except (UnicodeDecodeError, csv.Error) as error:
        raise unread(path, f"no UTF-8 text of comma-separated values ({error})") from None
    except OSError as error:
        raise unread(path, error.strerror or error) from None
    return Table(path, names, values)


def target_positions(table: Table, targets: Sequence[str | int]) -> list[int]:
    """Return the positions from 0 of the target columns.

    Raises:
        JobError: a name, but the file has no header.
        DataError: no such column, a name that stands twice in the header, or one column given twice.
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
                unknown_name(f"column in {table.path}", target, table.names, DataError)
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


def _split(table: Table, targets: Sequence[str | int]) -> tuple[ArrayRows, ArrayRows, tuple[str, ...] | None]:
    positions = target_positions(table, targets)
    x, names = table.without(positions)
    y = table.values[:, positions[0] if len(positions) == 1 else positions]
    return ArrayRows(x), ArrayRows(y), names


def _columns(table: Table) -> str:
    return shortened(", ".join(table.names or [str(table.width)]))


def read(data: schema.Csv, base: Path) -> Source:
    """Read `[data] source = "csv"`."""
    table = read_table(resolve(data.path, base), data)
    x, y, names = _split(table, data.targets)
    if not data.validation_path:
        return Source(x, y, feature_names=names)
    held = read_table(resolve(data.validation_path, base), data)
    if held.names != table.names or held.width != table.width:
        raise DataError(
            f"the columns of {held.path} ({_columns(held)}) are not those of {table.path} ({_columns(table)}). "
            "Give both files the same columns in the same order."
        )
    held_x, held_y, _ = _split(held, data.targets)
    return Source(x, y, (held_x, held_y), names)


def guess(path: Path) -> schema.Csv:
    """Return a section for a file that the job does not describe: a first line with a word in it is a header."""
    try:
        _, first = next(_lines(path, ","), (0, []))
    except (UnicodeDecodeError, csv.Error, OSError):
        first = []  # said better by `read_table`
    return schema.Csv(path=str(path), targets=[], header=not all(map(is_number, first)))


def read_inputs(path: Path, data: schema.Csv, features: int | None = None) -> ArrayRows:
    """Return the inputs for prediction: all columns but the targets, which the file may have or not have.

    Targets given by position are taken to be present, unless the file has exactly `features` columns.
    """
    table = read_table(path, data)
    names = table.names or ()
    present: list[str | int] = list(data.targets)
    if names and all(isinstance(target, str) for target in present):
        present = [target for target in present if target in names]
    elif table.width == features:
        present = []
    return ArrayRows(table.without(target_positions(table, present))[0])

"""The text of CSV files: its lines and cells, and what is wrong with it where NumPy's parser gives up."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from hpcnn.errors import DataError, shortened
from hpcnn.job import data as schema

ENCODING = "utf-8-sig"
"""UTF-8, with or without the mark at the beginning that spreadsheets write."""
SEPARATORS = ",;\t| "
"""What files are found with."""
DECIMAL_COMMA = re.compile(r"\s*[+-]?\d[\d.]*,\d[\d.,]*(e[+-]?\d+)?\s*", re.IGNORECASE)
"""1,5 or 1.234,5 or 1,234.5: whichever it is, Python reads none of them."""
SIGNATURES = {
    codecs.BOM_UTF16_LE: "it begins as UTF-16 does, the 'Unicode text' of spreadsheets. Convert it: "
    "iconv -f UTF-16 -t UTF-8 OLD > NEW",
    codecs.BOM_UTF16_BE: "it begins as UTF-16 does. Convert it: iconv -f UTF-16 -t UTF-8 OLD > NEW",
    b"PK\x03\x04": "it begins as archives and .xlsx files do. Save the sheet as CSV",
    b"\x1f\x8b": "it begins as gzip files do. Unpack it",
}
"""First bytes of files that are taken for CSV, and what to say of them."""


def read_lines(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each line that is not blank: its number, from 1, and its cells."""
    with path.open(encoding=ENCODING, newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        for cells in reader:
            if cells:
                yield reader.line_num, cells


def is_number(cell: str) -> bool:
    """Return whether a cell holds a number, as NumPy reads it.

    >>> is_number("-1e3"), is_number("age"), is_number("1_000")
    (True, False, False)
    """
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def not_text(path: Path, error: UnicodeDecodeError) -> DataError:
    """Return the error for a file that is no UTF-8 text: says what it may be, and where that shows."""
    with path.open("rb") as file:
        first = file.read(4)
        for signature, what in SIGNATURES.items():
            if first.startswith(signature):
                return DataError(f"{path} is no UTF-8 text: {what}.")
        file.seek(0)
        number = next((n for n, line in enumerate(file, 1) if not _decodes(line)), 1)
    return DataError(
        f"{path} is no UTF-8 text: line {number} holds the byte 0x{error.object[error.start]:02x}. If it is text, its "
        "encoding may be Latin-1, or Windows-1252. Convert it: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW."
    )


def _decodes(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def explain(path: Path, data: schema.Csv, names: Sequence[str] | None, width: int) -> None:
    """Raise DataError for the first line that is no row of `width` numbers, if there is one."""
    _check_separator(path, data.delimiter)
    lines = read_lines(path, data.delimiter)
    if data.header:
        (number, header), (_, below) = islice(read_lines(path, data.delimiter), 2)
        if len(below) != width or not any(map(is_number, below)):  # else "#a,b" may be names
            _check_comment(path, number, header)
        next(lines)
    for number, cells in lines:
        _check_comment(path, number, cells)
        if len(cells) != width:
            raise DataError(
                f"{path}, line {number}: {len(cells)} cells, but {'the header' if names else 'the first line'} has "
                f"{width}. Each line needs as many; data.delimiter is {data.delimiter!r}."
            )


def _check_comment(path: Path, number: int, cells: Sequence[str]) -> None:
    if cells[0].lstrip().startswith("#"):
        raise DataError(f"{path}, line {number} begins with '#': comments are not read. Delete such lines.")


def _check_separator(path: Path, delimiter: str) -> None:
    """Raise DataError if the first lines fit together by another separator than the job's."""
    with path.open(encoding=ENCODING, newline="") as file:
        lines = [*islice((line for line in file if line.strip()), 2)]
    for separator in SEPARATORS:
        table = [*csv.reader(lines, delimiter=separator)]
        if separator == delimiter or len({len(row) for row in table}) != 1 or len(table[0]) < 2:
            continue
        commas = [cell for cell in table[-1] if DECIMAL_COMMA.fullmatch(cell)]
        if all(is_number(cell) or cell in commas for cell in table[-1]):
            more = f" Then write numbers with a decimal point: {shortened(commas[0])!r} is none." if commas else ""
            raise DataError(
                f"{path}: the cells are separated by {separator!r}, but data.delimiter is {delimiter!r}. "
                f"Set data.delimiter = {separator!r}, or write the file with {delimiter!r}.{more}"
            )

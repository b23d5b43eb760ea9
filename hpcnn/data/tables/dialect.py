"""How a text file writes a table: encoding, separator of columns, decimal separator; found by a look, or given."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice

from hpcnn.data.source import unread
from hpcnn.data.tables.opened import File, content_of
from hpcnn.data.tables.text import is_missing, is_number
from hpcnn.errors import DataError, shortened
from hpcnn.job.data import Csv

WHITESPACE = "whitespace"
"""The delimiter that stands for any number of blanks and tabs."""
_DELIMITERS = "\t;|,"
_LOOK_BYTES = 2**16
_LOOK_ROWS = 100
_LOOK_CELLS = 10_000
_LOOK_DECIMALS = 2**20
_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF32_LE: "utf-32-le", codecs.BOM_UTF32_BE: "utf-32-be",
          codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}  # fmt: skip
"""First bytes that tell the encoding; UTF-32 before UTF-16, whose mark it begins with."""
_OTHERS = {
    b"PK\x03\x04": "archives and .xlsx files do. Save the sheet as CSV.",
    b"\xd0\xcf\x11\xe0": ".xls files do. Save the sheet as CSV.",
    b"PAR1": 'Parquet files do. Set data.source = "parquet".',
    b"ARROW1": 'Feather files do. Set data.source = "feather".',
    b"FEA1": 'Feather files do. Set data.source = "feather".',
    b"\x89HDF": 'HDF5 files do. Set data.source = "hdf5".',
    b"\x93NUMPY": '.npy files do. Set data.source = "npy".',
    b"SQLite format 3": "databases of SQLite do. Export the table as CSV.",
    b"%PDF": "PDF files do. Export the table as CSV.",
}
"""What files of other formats begin with, and what to do with them."""
_END = "\0"
"""A line that no text holds: in the last cell, it tells that the quotes of that are open."""
_COMMA_NUMBER = r"[ ]*[+-]?(\d+),(\d+)(?:[eE][+-]?\d+)?[ ]*"
_POINT_NUMBER = r"[ ]*[+-]?\d*\.\d+(?:[eE][+-]?\d+)?[ ]*"


@dataclass(frozen=True)
class Text:
    """The text of a file: UTF-8 without a mark, lines that end in a line feed, comments as empty lines."""

    path: str
    content: bytes
    delimiter: str
    decimal: str

    def lines(self) -> Iterator[tuple[int, list[str]]]:
        """Yield each line that is not blank: its number, from 1, and its cells. DataError: quotes stay open."""
        stream = io.TextIOWrapper(io.BytesIO(self.content), "utf-8", newline="")
        reader, last = csv.reader(chain(stream, [_END]), delimiter=self.delimiter), 0
        try:
            for cells in reader:
                if cells and _END in cells[-1]:
                    if cells != [_END]:
                        raise DataError(f"{self.path}, line {last + 1}: a quote opens and does not close. Correct it.")
                    return
                if cells:
                    yield reader.line_num, cells
                last = reader.line_num
        except csv.Error as error:
            raise unread(self.path, f"line {last + 1} is no row of cells ({error})") from None


def open_text(file: File, data: Csv) -> Text:
    """Return the text of a file, as the settings say, or as it looks where they leave that open.

    Raises:
        DataError: it is no text of the encoding, or its decimal separator is not clear.
    """
    content = _plain(content_of(file), data.encoding, file)
    if data.comment:
        content = re.sub(rb"(?m)^[ \t]*" + re.escape(data.comment.encode()) + rb"[^\n]*", b"", content)
    delimiter = data.delimiter or found_delimiter(content)
    if delimiter == WHITESPACE:
        content, delimiter = _single_blanks(content), " "
    decimal = _found_decimal(content, delimiter, file) if data.decimal == "auto" else data.decimal
    return Text(str(file), content if content.endswith(b"\n") else content + b"\n", delimiter, decimal)


def _plain(raw: bytes, encoding: str, file: File) -> bytes:
    """Return text as UTF-8 with line feeds."""
    other = next((what for start, what in _OTHERS.items() if raw.startswith(start)), "")
    if other:
        raise DataError(f"{file} is no text: it begins as {other}")
    mark = next((mark for mark in _MARKS if raw.startswith(mark)), b"")
    encoding = _MARKS.get(mark, encoding or "utf-8")
    raw = raw[len(mark) :] if mark else raw
    try:
        if codecs.lookup(encoding).name == "utf-8":
            check, plain = codecs.getincrementaldecoder("utf-8")(), raw
            for start in range(0, len(raw), _LOOK_DECIMALS):
                check.decode(raw[start : start + _LOOK_DECIMALS])
            check.decode(b"", final=True)
        else:
            plain = raw.decode(encoding).encode("utf-8", "replace")
    except UnicodeError:
        raise _not_text(file, raw, encoding) from None
    if b"\0" in plain:
        raise DataError(
            f"{file} holds null characters, as no text does. If it is UTF-16 without a mark at its beginning, set "
            'data.encoding = "utf-16-le" or "utf-16-be".'
        )
    return plain.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in plain else plain


def _not_text(file: File, raw: bytes, encoding: str) -> DataError:
    where, name = "", {"utf-8": "UTF-8"}.get(encoding, encoding)
    try:
        raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        where = f": line {line} holds the byte 0x{raw[error.start]:02x}"
    except UnicodeError as error:
        where = f": {shortened(error)}"
    advice = 'If it is text, its encoding may be Latin-1, or Windows-1252: set data.encoding = "latin-1" or "cp1252".'
    if encoding != "utf-8":
        advice = "Set data.encoding to that of the file."
    return DataError(f"{file} is no {name} text{where}. {advice}")


def _single_blanks(content: bytes) -> bytes:
    """Return text with one blank between cells and none around lines; quoted cells stay as they are."""
    pieces = content.split(b'"')
    pieces[::2] = [_squeezed(piece) for piece in pieces[::2]]
    return b'"'.join(pieces).strip(b" ")


def _squeezed(piece: bytes) -> bytes:
    piece = piece.replace(b"\t", b" ")
    while b"  " in piece:
        piece = piece.replace(b"  ", b" ")
    return piece.replace(b"\n ", b"\n").replace(b" \n", b"\n")


def found_delimiter(content: bytes) -> str:
    r"""Return the separator by which the first lines have equally many cells, most of them numbers.

    >>> found_delimiter(b"a;b\n1,5;2\n"), found_delimiter(b"1  2\n3 4\n")
    (';', 'whitespace')
    """
    head = content[:_LOOK_BYTES]
    whole = len(head) == len(content)
    text = head.decode("utf-8", "ignore")
    best = max((_rated(text, delimiter, whole=whole) for delimiter in _DELIMITERS), key=lambda one: one[:2])
    if best[0] >= 0:
        return best[2]
    if _rated(_single_blanks(head).decode("utf-8", "ignore"), " ", whole=whole)[0] >= 0:
        return WHITESPACE
    most = max(_DELIMITERS, key=text.partition("\n")[0].count)
    return most if most in text.partition("\n")[0] else ","


def _rated(text: str, delimiter: str, *, whole: bool) -> tuple[float, int, str]:
    """Return the share of cells that are numbers, and the number of columns; a share of -1 if lines differ."""
    rows = []
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            rows += [row] if row else []
            if len(rows) > _LOOK_ROWS:
                break
        else:
            rows = rows if whole or len(rows) < 2 else rows[:-1]
    except csv.Error:
        return -1.0, 0, delimiter
    width = len(rows[0]) if rows else 0
    if width < 2 or any(len(row) != width for row in rows):
        return -1.0, 0, delimiter
    cells = [*islice(chain.from_iterable(rows[1:] or rows), _LOOK_CELLS)]
    numbers = sum(is_number(cell) or is_number(cell, ",") or is_missing(cell) for cell in cells)
    return numbers / len(cells), width, delimiter


def _found_decimal(content: bytes, delimiter: str, file: File) -> str:
    """Return the decimal separator of the first lines, where it is clear; a point where there is nothing to tell."""
    if (b'"' if delimiter == "," else b",") not in content:
        return "."
    head = content[:_LOOK_DECIMALS]
    head = head[: head.rfind(b"\n") + 1] if len(head) < len(content) else head
    unclear = ""
    for match in _whole_cells(_COMMA_NUMBER, '"' if delimiter == "," else f'"\n{re.escape(delimiter)}', head):
        whole, fraction = match.groups()
        text = f"{whole.decode()},{fraction.decode()}"
        if len(fraction) != 3 or whole.startswith(b"0") or len(whole) > 3:
            point = next(_whole_cells(_POINT_NUMBER, f'"\n{re.escape(delimiter)}', head), None)
            if point is None:
                return ","
            other = point.group().decode().strip(' "\n' + delimiter)
            raise DataError(
                f"{file} has numbers with a decimal comma, as {text}, and with a decimal point, as {other}. Write all "
                'of them alike, or say which it is by data.decimal = "." or ",".'
            )
        unclear = unclear or text
    if unclear:
        raise DataError(
            f"{file}: {shortened(unclear)} may have a decimal comma, or a comma between thousands. Say which by "
            'data.decimal = "," or "."; numbers with something between thousands are not read.'
        )
    return "."


def _whole_cells(number: str, ends: str, content: bytes) -> Iterator[re.Match[bytes]]:
    """Return the cells that match from one of the characters `ends` to the next."""
    return re.finditer(f"(?:^|[{ends}]){number}(?=[{ends}]|$)".encode(), content)

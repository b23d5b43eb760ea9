"""Arrow's parser and Python's read the same table, bit for bit, or refuse the file in the same words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hpcnn.data.readers.csv import CsvReader
from hpcnn.data.tables import csv_table
from hpcnn.data.tables.table import Column, Table
from hpcnn.errors import DataError
from hpcnn.job.data import Csv
from tests.require import require

NUMBERS = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True).map(repr),
    st.integers(-(2**70), 2**70).map(str),
    st.sampled_from(["", "NA", "-nan", "NaN", " 1 ", "+2", "1.", ".5", "1e400", "-0", "INF", "0.1e-400", "٣"]),
)
ODD = st.sampled_from([
    "nan(1)", "1_0", "0x1p3", "1,5", "1.234,5", "1,234", "yes", "no", "True", "2024-05-31", "2024/05/31 17:45",
    "2024-05-31T17:45:01.5Z", "01/02/2003", "?", "#1", 'say "x"', "a\nb", " ", "ü",
])  # fmt: skip
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=4)
CELLS = st.one_of(NUMBERS, NUMBERS, NUMBERS, ODD, WORDS)


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, list[list[list[str]]]]:
    """Return a separator, and the parts of a table: cells as they are written, with or without quotes."""
    delimiter, width = draw(st.sampled_from(",;\t|")), draw(st.integers(1, 4))
    kinds = [draw(st.sampled_from([NUMBERS, NUMBERS, ODD, CELLS])) for _ in range(width)]

    def written(cell: str) -> str:
        quoted = draw(st.booleans()) or delimiter in cell or "\n" in cell or cell.startswith(("#", '"'))
        return '"' + cell.replace('"', '""') + '"' if quoted and draw(st.integers(0, 50)) else cell

    rows = st.integers(1, 5)
    return delimiter, [
        [[written(draw(kind)) for kind in kinds] for _ in range(draw(rows))] for _ in range(draw(st.integers(1, 2)))
    ]


def outcome(folder: Path, data: Csv, least: int) -> Any:
    """Return the table as bits, or what was refused."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_table, "ARROW_LEAST", least)
        try:
            return bits(CsvReader().table(folder, data))
        except DataError as error:
            return str(error)


def bits(table: Table) -> list[tuple[Any, ...]]:
    def of(column: Column) -> tuple[Any, ...]:
        return column.name, column.kind, column.values.dtype.str, column.values.tobytes(), column.words, column.fault

    return [of(column) for column in table.columns]


def both(folder: Path, delimiter: str, parts: Sequence[Sequence[Sequence[str]]], **settings: Any) -> Any:
    """Write parts, read them by both parsers, and return what they agree on."""
    require("pyarrow")
    width = len(parts[0][0])
    header = delimiter.join(f"c{place}" for place in range(width))
    for number, rows in enumerate(parts):
        lines = [header, *(delimiter.join(cells) for cells in rows)]
        (folder / f"{number}.csv").write_text("\n".join(lines) + "\n", newline="")
    data = Csv(path="-", targets=[0], delimiter=delimiter, **settings)
    by_arrow, by_python = (outcome(folder, data, least) for least in (0, 2**60))
    assert by_arrow == by_python
    return by_arrow


@given(tables(), st.sampled_from(["auto", ".", ","]))
@example((",", [[["-nan"]]]), ".")
@example((",", [[["1", "a"], ["nan(1)", "b"]]]), ".")
@example((",", [[["1", '"2\n']]]), ".")
@example((";", [[["1", "2"]], [["1,5", "x"]]]), "auto")
@settings(max_examples=40, deadline=None)
def test_the_same_table(tmp_path_factory: pytest.TempPathFactory, table: Any, decimal: str) -> None:
    both(tmp_path_factory.mktemp("t"), *table, decimal=decimal)


LATE = {
    "a word": "x",
    "a marker between blanks": " NA ",
    "a number of C": "nan(1)",
    "digits of another script": "٣",
    "a boolean": "yes",
    "a comma": '"1,5"',
    "a ragged line": "1,2,3",
    "a blank line": "\n",
}


@pytest.mark.parametrize("case", LATE)
def test_what_comes_after_the_first_rows(case: str, tmp_path: Path) -> None:
    rows = [[str(number), repr(number / 7), "w"] for number in range(60)]
    rows[55][1] = LATE[case]
    both(tmp_path, ",", [rows])


def test_numbers_are_rounded_correctly(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 2**63, 900).view(np.float64)
    halfway = ["9007199254740993", "9007199254740992.9999999999", "1.7976931348623159e308", "2.4703282292062328e-324"]
    table = both(tmp_path, ",", [[[repr(value)] for value in values.tolist()] + [[text] for text in halfway]])
    expected = np.array([*values, *map(float, halfway)])
    np.testing.assert_array_equal(np.frombuffer(table[0][3]), expected)

"""`[data]`: tables with columns."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from hpcnn.job.data.base import FileSection
from hpcnn.job.section import Section, Text

Categories = Literal["one_hot", "integer"]
Missing = Literal["error", "mean", "median", "most_frequent", "indicator"]
ENCODING = ("categories", "missing", "columns")
"""Settings of how tables become numbers."""


class TableColumn(Section, frozen=True, kw_only=True):
    """How one column of a table becomes numbers, where that differs from the other columns."""

    kind: Literal["auto", "number", "category", "date"] = "auto"
    """What it holds; `auto`: what its values look like. `category` makes categories of numbers, such as codes."""
    order: list[Text] = []
    """Words in their order: the column becomes one number, the place of its word, from 0."""
    categories: Literal["", "one_hot", "integer"] = ""
    """As `data.categories`, for this column."""
    missing: Literal["", "error", "mean", "median", "most_frequent", "indicator"] = ""
    """As `data.missing`, for this column."""


class TableSection(FileSection, frozen=True, kw_only=True):
    """Settings of tables with columns."""

    targets: Annotated[list[str | int], Meta(min_length=1)]
    """Columns to predict: names, patterns with `*` and `?`, or positions from 0 (-1 is the last)."""
    inputs: list[Text] | dict[str, list[Text]] = []
    """Columns that are inputs: names, in this order, or patterns; empty: all others, sorted by name. A table of lists \
gives the model several inputs by name."""
    exclude: list[Text] = []
    """Columns that are left out: names or patterns."""
    weights: str = ""
    """Column of the weights of the samples."""
    group: str = ""
    """Column that says which samples belong together."""
    validation_column: str = ""
    """Column that says which rows are held out for validation: those with one of `validation_values`."""
    validation_values: list[str | int | bool] = []
    """Its values in these rows, as `["test"]`."""
    categories: Categories = "one_hot"
    """What becomes of words: a column of zeros and ones a word, or one number a word from 1 (0: an unknown word)."""
    missing: Missing = "error"
    """What replaces missing inputs; `indicator`: the mean, and one more column that says where."""
    columns: dict[str, TableColumn] = {}
    """Settings of single columns by name."""


class Csv(TableSection, frozen=True, kw_only=True, tag="csv"):
    """Text files of numbers, words and dates: CSV, and others with one line a row."""

    delimiter: str = ""
    """Separator of columns; `whitespace`: any number of blanks and tabs. Empty: found by a look at the first lines."""
    decimal: Literal["auto", ".", ","] = "auto"
    """Decimal separator; `auto`: found by a look at the numbers, where it is clear."""
    encoding: str = ""
    """Encoding of the text, as `latin-1`. Empty: UTF-8, or what a mark at the beginning says."""
    comment: str = ""
    """What comment lines begin with, as `#`; empty: there are none."""
    header: bool = True
    """Whether the first line names the columns."""


class Parquet(TableSection, frozen=True, kw_only=True, tag="parquet"):
    """A Parquet table of numbers, words and dates (extra `parquet`)."""


class Feather(TableSection, frozen=True, kw_only=True, tag="feather"):
    """A Feather table of numbers, words and dates (extra `parquet`)."""

"""A table as read: named columns of numbers, words or dates, some of whose values may be missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from hpcnn.errors import DataError, shortened

Kind = Literal["number", "boolean", "words", "date"]


@dataclass(frozen=True, eq=False)
class Column:
    """One column.

    The values are, by kind: "number" and "boolean", float64, NaN where missing; "words", int32, places in `words`, -1
    where missing; "date", float64, seconds since 1970 in UTC, NaN where missing.
    """

    name: str
    kind: Kind
    values: NDArray[Any]
    """Shape (n,)."""
    words: tuple[str, ...] = ()
    """The distinct words, sorted by code point. Of booleans: how false and true are spelt, if each is so in one way."""
    fault: str = ""
    """Why its values can't be used, as the values of a type that is not supported; empty: they can."""
    within: tuple[NDArray[Any], int] | None = None
    """The array (n, columns) of the reader's own that the values are a column of, and which."""


@dataclass(frozen=True, eq=False)
class Table:
    """The columns of one file, or of all files of a folder one below the other."""

    path: str
    """What was read, for messages."""
    columns: tuple[Column, ...]
    named: bool = True
    """Whether the columns have names; else they are numbered from "0"."""
    notes: tuple[str, ...] = ()
    """Warnings for the user."""

    def __len__(self) -> int:
        return len(self.columns[0].values)

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order of the file."""
        return tuple(column.name for column in self.columns)

    def pick(self, places: Sequence[int]) -> Table:
        """Return the table of the columns at `places`, in that order. DataError: one of them can't be used."""
        for place in places:
            if self.columns[place].fault:
                raise DataError(f"{self.path}: {self.columns[place].fault}")
        return Table(self.path, tuple(self.columns[place] for place in places), self.named, self.notes)


def check_names(path: str, names: Sequence[str]) -> None:
    """Check that columns with names differ in them. DataError: several have one name."""
    twice = sorted(name for name, times in Counter(names).items() if name and times > 1)
    if twice:
        raise DataError(f"{path} has several columns of one name: {shortened(', '.join(twice))}. Rename them.")

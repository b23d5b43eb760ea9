"""Names of columns. They belong to the model: other data are matched to them by name, in whatever order they come."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from hpcnn.errors import DataError, nearest, shortened

PANDAS_INDEX = re.compile(r"__index_level_\d+__")
"""What pandas calls an index without a name in a Parquet file."""
NAMELESS = re.compile(r"(Unnamed: \d+)?")
"""The first column of a CSV file that pandas wrote with its index, and what pandas calls such a column."""


@dataclass(frozen=True)
class Columns:
    """The names that a model knows its columns by, each in order, without blanks around them."""

    inputs: tuple[str, ...]
    targets: tuple[str, ...] = ()
    """May be left in data for prediction."""

    def __post_init__(self) -> None:
        for kind in ("inputs", "targets"):
            object.__setattr__(self, kind, stripped(getattr(self, kind)))

    def places(self, given: Sequence[str], what: str) -> list[int]:
        """Return the positions of the inputs among the columns `given`.

        These may hold the targets and an index of pandas as well: such columns are left out. Names that only count
        the columns from 0, as those of a table that never had names, say no more than the positions.

        Raises:
            DataError: an input is missing or ambiguous, or there is a column that the model does not know.
        """
        given = stripped(given)
        known, position = set(self.inputs), {name: place for place, name in enumerate(given)}
        kept = [place for place, name in enumerate(given) if name in known or not self._ignored(name)]
        if tuple(given[place] for place in kept) == self.inputs:
            return kept
        missing = [name for name in self.inputs if name not in position]
        if missing and (counted(given) or counted(self.inputs)):
            return kept
        unknown = [given[place] for place in kept if given[place] not in known]
        if missing or unknown:
            raise DataError(self._mismatch(missing, unknown, what))
        if len(kept) != len(known) or len(known) != len(self.inputs):
            counts = (*Counter(given).items(), *Counter(self.inputs).items())
            twice = next(name for name, count in counts if count > 1)
            raise DataError(
                f"{what} can't be matched by name to the training data: several columns are named "
                f"{shortened(twice)!r}. Give them in the order of the training data, or rename them in both."
            )
        return [position[name] for name in self.inputs]

    def _ignored(self, name: str) -> bool:
        return name in self.targets or PANDAS_INDEX.fullmatch(name) is not None or NAMELESS.fullmatch(name) is not None

    def _mismatch(self, missing: Sequence[str], unknown: Sequence[str], what: str) -> str:
        faults = [f"lacks {listed(missing)}"] if missing else []
        faults += [f"has {listed(unknown)}, which the model was not trained on"] if unknown else []
        targets = f" The targets ({listed(self.targets)}) may stay." if self.targets else ""
        return (
            f"{what} {' and '.join(faults)}.{nearest(missing[0], unknown) if missing else ''} Give the columns by "
            f"the names of the training data, in any order, and no others: {listed(self.inputs)}.{targets}"
        )


def counted(names: Sequence[str]) -> bool:
    """Return whether names only count the columns from 0: pandas calls them so where they have none."""
    return all(name == str(place) for place, name in enumerate(names))


def listed(names: Sequence[str]) -> str:
    """Return names as a message lists them."""
    return shortened(", ".join(map(repr, names)))


def stripped(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of columns without the blanks around them, as in "a, b" in the first line of a CSV file."""
    return tuple(name.strip() for name in names)


def named_columns(inputs: Sequence[str], targets: Sequence[str] = ()) -> Columns:
    """Return the columns of a table that is trained on; a target that shares its name with an input has none."""
    columns = Columns(tuple(inputs), tuple(targets))
    return Columns(columns.inputs) if set(columns.inputs) & set(columns.targets) else columns


def nameless_note(columns: Columns | None, what: str) -> tuple[str, ...]:
    """Return a warning of inputs that look like the index of a table that pandas wrote, if there are any."""
    for place, name in enumerate(columns.inputs if columns else ()):
        if NAMELESS.fullmatch(name):
            return (
                f"column {place} of {what} has no name ({name!r}), like an index that pandas wrote, but is an input. "
                "Name it, or leave it out: to_csv(index=False).",
            )
    return ()

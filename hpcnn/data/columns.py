"""Names of columns. The model keeps them, and other data are matched to them by name, in any order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from hpcnn.errors import DataError, nearest, shortened

PANDAS_INDEX = re.compile(r"__index_level_\d+__")
"""The name that pandas gives an unnamed index in a Parquet file."""
NAMELESS = re.compile(r"(Unnamed: \d+)?")
"""The header of the index column in a CSV file that pandas wrote, and the name that pandas gives it on reading."""


@dataclass(frozen=True)
class Columns:
    """The names of the columns that a model was trained on, in order, without surrounding blanks."""

    inputs: tuple[str, ...]
    targets: tuple[str, ...] = ()
    """They may be present in data for prediction."""

    def __post_init__(self) -> None:
        for kind in ("inputs", "targets"):
            object.__setattr__(self, kind, stripped(getattr(self, kind)))

    def places(self, given: Sequence[str], what: str) -> list[int]:
        """Return the positions of the inputs among the columns `given`.

        Targets and an index of pandas may be present and are skipped. Names that merely number the columns from 0, as
        in a table without names, mean no more than the positions.

        Raises:
            DataError: an input is missing or ambiguous, or a column is unknown to the model.
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
    """Return whether names merely number the columns from 0, as pandas names unnamed columns."""
    return all(name == str(place) for place, name in enumerate(names))


def listed(names: Sequence[str]) -> str:
    """Return names in the form of messages."""
    return shortened(", ".join(map(repr, names)))


def stripped(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of columns without surrounding blanks, as in "a, b" in the first line of a CSV file."""
    return tuple(name.strip() for name in names)


def named_columns(inputs: Sequence[str], targets: Sequence[str] = ()) -> Columns:
    """Return the columns of training data; without names of targets if one of them is also that of an input."""
    columns = Columns(tuple(inputs), tuple(targets))
    return Columns(columns.inputs) if set(columns.inputs) & set(columns.targets) else columns


def nameless_note(columns: Columns | None, what: str) -> tuple[str, ...]:
    """Return a warning if an input looks like the index of a table that pandas wrote."""
    for place, name in enumerate(columns.inputs if columns else ()):
        if NAMELESS.fullmatch(name):
            return (
                f"column {place} of {what} has no name ({name!r}), like an index that pandas wrote, but is an input. "
                "Name it, or omit it: to_csv(index=False).",
            )
    return ()

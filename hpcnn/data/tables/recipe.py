"""How the columns of a table become the inputs and targets of a network: measured once, and kept with the model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

ColumnKind = Literal["number", "one_hot", "integer", "ordered", "date"]
CALENDAR = ("years", "weekday_sin", "weekday_cos", "yearday_sin", "yearday_cos")
"""The features of a date."""
CLOCK = ("time_sin", "time_cos")
"""Those that dates with a time of day have, too."""


class ColumnRecipe(msgspec.Struct, frozen=True, kw_only=True):
    """How one column becomes one feature or several."""

    name: str
    kind: ColumnKind
    categories: list[str] = []
    """The words of the training data, in order."""
    refuses_missing: bool = True
    fill: float | None = None
    """What replaces missing values: a number, seconds since 1970, or the place of a category; None: nothing does."""
    indicator: bool = False
    """Whether one more feature says where values are missing."""
    time: bool = False
    """Of dates: whether the training data have a time of day."""

    def __post_init__(self) -> None:
        if len(set(self.categories)) < len(self.categories):
            raise ValueError(f"column {self.name!r} has a category twice")
        if self.fill is not None and not math.isfinite(self.fill):
            raise ValueError(f"column {self.name!r} is filled with {self.fill}")
        if self.is_category and self.fill is not None and self.fill not in range(len(self.categories)):
            raise ValueError(f"column {self.name!r} is filled with a category that it does not have")

    @property
    def is_category(self) -> bool:
        """Whether its values are words."""
        return self.kind in ("one_hot", "integer", "ordered")

    @property
    def features(self) -> tuple[str, ...]:
        """The names of its features."""
        name = self.name
        own: tuple[str, ...] = (name,)
        if self.kind == "one_hot":
            own = tuple(f"{name}={word}" for word in self.categories)
        elif self.kind == "date":
            own = tuple(f"{name}.{part}" for part in (*CALENDAR, *(CLOCK if self.time else ())))
        return (*own, f"{name}.missing") if self.indicator else own

    @property
    def scaled(self) -> tuple[bool, ...]:
        """For each feature, whether `data.scale` applies: to numbers, not to zeros and ones, sines and categories."""
        first = self.kind in ("number", "ordered", "date")
        return (first, *(False for _ in self.features[1:]))


class TargetRecipe(msgspec.Struct, frozen=True, kw_only=True):
    """What one target stands for."""

    name: str
    kind: Literal["number", "boolean", "words"] = "number"
    words: list[str] = []
    """The classes in order: words, or how false and true are spelt."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """What became of each column."""

    columns: list[ColumnRecipe] = []
    """Of the inputs, in order; empty where they are of no table."""
    targets: list[TargetRecipe] = []
    inputs: dict[str, Annotated[int, msgspec.Meta(ge=1)]] = {}
    """Several inputs of the model: the number of columns of each, one input after the other."""

    def __post_init__(self) -> None:
        if self.inputs and sum(self.inputs.values()) != len(self.columns):
            raise ValueError("the inputs have other columns than there are")

    @property
    def features(self) -> tuple[str, ...]:
        """The names of all features of the inputs."""
        return tuple(name for column in self.columns for name in column.features)

    @property
    def changes_inputs(self) -> bool:
        """Whether the features are other than the columns as they were read."""
        return any(column.kind != "number" or column.fill is not None or column.indicator for column in self.columns)

    @property
    def has_words(self) -> bool:
        """Whether a target is words."""
        return any(target.kind == "words" for target in self.targets)

    def words(self, place: int = 0) -> tuple[str, ...]:
        """Return the classes of a target as words; empty where they are numbers."""
        return tuple(self.targets[place].words) if place < len(self.targets) else ()

    def input_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of each of several inputs, for one sample."""
        shapes, start = {}, 0
        for name, count in self.inputs.items():
            shapes[name] = (sum(len(column.features) for column in self.columns[start : start + count]),)
            start += count
        return shapes

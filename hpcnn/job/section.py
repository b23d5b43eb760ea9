"""The base class of the sections of a job file, and types of numbers."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

Text = Annotated[str, Meta(min_length=1)]
PositiveInt = Annotated[int, Meta(ge=1)]
NonNegativeInt = Annotated[int, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
NonNegative = Annotated[float, Meta(ge=0)]
Fraction = Annotated[float, Meta(ge=0, lt=1)]
Share = Annotated[float, Meta(ge=0, le=1)]


class Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the job file: immutable, and strict about its keys."""


def tag_of(section: object) -> str:
    """Return the name by which a section of a union is chosen, as ``mse``."""
    return str(section.__struct_config__.tag)  # type: ignore[attr-defined]

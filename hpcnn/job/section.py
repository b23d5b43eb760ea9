"""What every section of a job file is made of: the strict base and the types of numbers."""

from __future__ import annotations

import threading
from typing import Annotated, Any, TypeVar

import msgspec
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


Kind = TypeVar("Kind")
_converting = threading.Lock()


def convert(value: Any, kind: type[Kind]) -> Kind:
    """Return plain values as one of `kind`, as `msgspec.convert` does, but safe in several threads.

    msgspec prepares a type when it is first used, without a lock: two threads that do so at once crash the interpreter.

    Raises:
        msgspec.ValidationError: they are none.
    """
    with _converting:
        return msgspec.convert(value, kind)

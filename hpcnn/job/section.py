"""What every section of a job file is made of: the strict base and the types of numbers."""

from __future__ import annotations

import os
import threading
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct, inspect

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
_preparing = threading.Lock()
"""msgspec prepares a type when it is first used, without a lock: a thread that finds it half prepared crashes."""


def _renew_lock() -> None:
    """In a child process the thread that may have held it is gone."""
    global _preparing
    _preparing = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def convert(value: Any, kind: type[Kind]) -> Kind:
    """Return plain values as one of `kind`, as `msgspec.convert` does, but safe in several threads.

    Raises:
        msgspec.ValidationError: they are none.
    """
    with _preparing:
        return msgspec.convert(value, kind)


def type_info(kind: Any) -> inspect.Type:
    """Return what msgspec knows of a type, as `msgspec.inspect.type_info` does, but safe in several threads."""
    with _preparing:
        return inspect.type_info(kind)

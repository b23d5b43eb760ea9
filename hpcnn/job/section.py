"""The base class of the sections of a job file, and types of numbers."""

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


def tag_of(section: object) -> str:
    """Return the name by which a section of a union is chosen, as ``mse``."""
    return str(section.__struct_config__.tag)  # type: ignore[attr-defined]


Kind = TypeVar("Kind")
_preparing = threading.Lock()
"""msgspec prepares a type at first use, without a lock: a concurrent thread crashes on a half prepared type."""


def _renew_lock() -> None:
    """Create a new lock in a child process, where the thread that may have held it does not exist."""
    global _preparing
    _preparing = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def convert(value: Any, kind: type[Kind]) -> Kind:
    """Convert plain values to `kind` like `msgspec.convert`, with the same errors, but thread-safe."""
    with _preparing:
        return msgspec.convert(value, kind)


def type_info(kind: Any) -> inspect.Type:
    """Return the information of msgspec about a type like `msgspec.inspect.type_info`, but thread-safe."""
    with _preparing:
        return inspect.type_info(kind)

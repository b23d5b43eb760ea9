"""Conversion of plain values to types, by msgspec, on several threads at once."""

from __future__ import annotations

import os
import threading
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

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

"""The files that a pattern of shards names: ``train-{000..127}.tar``, ``{a,b}.tar``, ``train-*.tar``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from hpcnn.data.source import find_files
from hpcnn.errors import DataError

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def expanded(pattern: str) -> Iterator[str]:
    """Yield the names that a pattern with braces stands for, in order.

    >>> [*expanded("a-{08..10}.tar")]
    ['a-08.tar', 'a-09.tar', 'a-10.tar']
    """
    found = _BRACES.search(pattern)
    if found is None:
        yield pattern
        return
    bounds = _RANGE.fullmatch(found[1])
    if bounds is not None:
        first, last = map(int, bounds.groups())
        if first > last:
            raise DataError(f"{found[0]} in {pattern!r} counts from {first} to {last}: put the smaller number first.")
        width = max(map(len, bounds.groups())) if any(one[0] == "0" for one in bounds.groups()) else 0
        names: Iterator[str] = (f"{number:0{width}}" for number in range(first, last + 1))
    else:
        names = iter(found[1].split(","))
    for name in names:
        yield from expanded(pattern[: found.start()] + name + pattern[found.end() :])


def find_shards(pattern: str, base: Path) -> list[Path]:
    """Return the files of a pattern, in order; see `find_files`.

    Raises:
        DataError: there is none, one is missing, or is named twice.
    """
    if "://" in pattern or pattern.startswith("pipe:"):
        raise DataError(f"{pattern!r} is no path: shards are read from files, at any place. Download them.")
    found: list[Path] = []
    for name in expanded(pattern):
        found += find_files(name, base)
    twice = len(found) - len(set(found))
    if twice:
        raise DataError(f"{pattern!r} names {twice} files twice. Name each once.")
    return found

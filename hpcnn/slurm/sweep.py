"""A sweep: one job with different values of some settings in each run, given in a TOML file."""

from __future__ import annotations

import datetime
import itertools
import json
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpcnn.errors import JobError, unknown_name

Point = dict[str, Any]
"""The settings of one run, by their dotted keys."""

SIZE_LIMIT = 2**20
"""Bytes of a file."""
POINTS_LIMIT = 10_000
"""More are likely a mistake, and more than most clusters accept as one array."""


def read_points(path: Path) -> list[Point]:
    """Return the points of a sweep file: all combinations of its ``[values]``, and then its ``[[points]]``.

    The last setting varies fastest.

    Raises:
        JobError: the file does not exist, is not TOML, or is not a sweep.
    """
    table = _read(path)
    for key in table:
        if key not in ("values", "points"):
            unknown_name(f"key in the sweep file {str(path)!r}:", key, ("values", "points"))
    points = [*_combinations(table.get("values", {}), path), *_listed(table.get("points", []), path)]
    if not points:
        raise JobError(f"{path}: no values. For example:\n[values]\noptimizer.learning_rate = [0.001, 0.01]")
    if len(points) > POINTS_LIMIT:
        raise JobError(f"{path}: {len(points)} points; a sweep has at most {POINTS_LIMIT}")
    return points


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(SIZE_LIMIT + 1)
        if len(text) > SIZE_LIMIT:
            raise JobError(f"{path} has more than {SIZE_LIMIT} bytes and is not a sweep file")
        return tomllib.loads(text.decode("utf-8-sig"))
    except OSError as error:
        raise JobError(f"can't read the sweep file {str(path)!r}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise JobError(f"{path}: {error}") from None


def _combinations(values: Any, path: Path) -> Iterator[Point]:
    if not isinstance(values, dict):
        raise JobError(f"{path}: [values] must be a table with a list of values for each setting")
    lists = dict(_settings(values))
    for key, choices in lists.items():
        if not isinstance(choices, list) or not choices:
            raise JobError(f"{path}: {key} = {choices!r}: expected a list of values, as [0.001, 0.01]")
    if math.prod(map(len, lists.values())) > POINTS_LIMIT:
        raise JobError(f"{path}: [values] has more than {POINTS_LIMIT} combinations")
    if lists:
        yield from (dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values()))


def _listed(points: Any, path: Path) -> Iterator[Point]:
    if not isinstance(points, list) or not all(isinstance(point, dict) and point for point in points):
        raise JobError(f"{path}: [[points]] must be tables, each with the settings of one run")
    yield from (dict(_settings(point)) for point in points)


def _settings(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        key = f"{prefix}{name}"
        if not key.isprintable():
            raise JobError(f"a sweep's setting {key!r}: expected a key of a job file, as optimizer.learning_rate")
        if isinstance(value, dict):
            yield from _settings(value, f"{key}.")
        else:
            yield key, value


def overrides(point: Point) -> list[str]:
    """Return the settings of a point for ``--set``.

    >>> overrides({"optimizer.learning_rate": 0.01, "optimizer.name": "sgd"})
    ['optimizer.learning_rate=0.01', 'optimizer.name="sgd"']
    """
    return [f"{key}={to_toml(value)}" for key, value in point.items()]


def to_toml(value: Any) -> str:
    r"""Return a value as TOML on one line.

    >>> to_toml([1, 0.5, True, "it's"])
    '[1, 0.5, true, "it\'s"]'
    """
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list():
            return f"[{', '.join(map(to_toml, value))}]"
        case dict():
            return f"{{{', '.join(f'{to_toml(key)} = {to_toml(inner)}' for key, inner in value.items())}}}"
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case _:
            return repr(value)


def points_toml(points: Sequence[Point]) -> str:
    """Return points as the text of a sweep file that lists them, which the run folder keeps."""
    tables = ("\n".join(f"{to_toml(key)} = {to_toml(value)}" for key, value in point.items()) for point in points)
    return "".join(f"[[points]]\n{table}\n\n" for table in tables)


def point_at(points: Sequence[Point], index: int) -> Point:
    """Return the point at `index`, counted from 0. JobError: there is none."""
    if not 0 <= index < len(points):
        raise JobError(f"no point {index}: the sweep has points 0 to {len(points) - 1}")
    return points[index]

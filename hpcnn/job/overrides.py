"""`--set key=value`: overrides of a job from the command line, applied before it is checked."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from hpcnn.errors import JobError

TAG_FIELDS = {"data": "source", "loss": "name", "optimizer": "name", "schedule": "name"}
"""The key that gives the kind of a section; for a layer it is `type`."""

DEFAULT_TAGS = {"optimizer": "adam", "schedule": "constant"}
"""The kind of a section that the file leaves out, so that a single setting of it can be set."""

Keys = tuple[str, ...]

_MISSING = object()


def apply_overrides(table: dict[str, Any], overrides: Sequence[str] | Mapping[str, Any]) -> dict[Keys, bool]:
    """Change `table` in place by each ``key=value`` in turn.

    In a mapping, values are those that TOML would give, and None removes a setting.

    A key is a path, with list positions as numbers: ``model.layers.0.units=64``. A value is TOML, or else a plain
    string. An empty value removes the setting, see `check_emptied`. Missing tables are created. Another kind
    (``optimizer.name=sgd``) replaces the whole table, except for earlier overrides: the settings of the old kind do
    not apply to the new one.

    Returns:
        the keys that were set, each with whether its value is an empty text.

    Raises:
        JobError: not of the form ``key=value``, or a path that does not exist.
    """
    done: dict[Keys, bool] = {}
    for override, key, value in _changes(overrides):
        keys = tuple(part.strip() for part in key.split("."))
        if value is _MISSING or not all(keys):
            raise JobError(f"--set {override}: expected key=value, for example --set train.epochs=20")
        try:
            _set(table, keys, value, done)
        except _PathError as error:
            raise JobError(f"--set {override}: {error}") from None
        done[keys] = value is None and not isinstance(overrides, Mapping)
    return done


def check_emptied(job: object, changed: Mapping[Keys, bool]) -> None:
    """Check that a setting with an empty value is now without one, as ``train.early_stopping=``.

    One that has a value by default would have that, whatever the job file says, where a variable of a shell is unset.

    Args:
        job: the job after all overrides.
        changed: the result of `apply_overrides`.

    Raises:
        JobError: a setting has a value.
    """
    for keys in (keys for keys, emptied in changed.items() if emptied):
        holder, value = None, job
        for key in keys:
            holder, value = value, _inside(value, key)
        if not isinstance(holder, list | tuple) and value not in (None, "", (), [], {}):
            key = ".".join(keys)
            raise JobError(
                f"--set {key}=: the value is empty, perhaps a variable that is not set. Give one, or leave it out"
            )


def _changes(overrides: Sequence[str] | Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Yield each override as quoted in messages, its key and its value: None to remove it."""
    if isinstance(overrides, Mapping):
        for key, value in overrides.items():
            yield str(key), str(key), value
        return
    for override in overrides:
        key, equals, text = override.partition("=")
        yield override, key, (_parse(text.strip()) if text.strip() else None) if equals else _MISSING


def _inside(value: Any, key: str) -> Any:
    """Return a setting of a section, or an entry of a list; None if there is none."""
    if isinstance(value, list | tuple):
        return value[int(key)] if int(key) < len(value) else None
    return value.get(key) if isinstance(value, dict) else getattr(value, key, None)


class _PathError(Exception):
    """A path that does not exist."""


def _set(table: dict[str, Any], keys: Keys, value: Any, done: Collection[Keys]) -> None:
    node: Any = table
    for depth, key in enumerate(keys[:-1]):
        if isinstance(node, dict) and key not in node:
            node[key] = {TAG_FIELDS[key]: DEFAULT_TAGS[key]} if depth == 0 and key in DEFAULT_TAGS else {}
        node = _step(node, key, keys[:depth])
    last = keys[-1]
    if isinstance(node, list):
        _step(node, last, keys[:-1])
        if value is None:
            del node[int(last)]
        else:
            node[int(last)] = value
    elif not isinstance(node, dict):
        raise _PathError(f"{'.'.join(keys[:-1])} is {node!r}, not a table")
    elif value is None:
        node.pop(last, None)
    else:
        if _is_tag(keys) and node.get(last, value) != value:
            for old in [key for key in node if (*keys[:-1], key) not in done]:
                del node[old]
        node[last] = value


def _step(node: Any, key: str, parents: Keys) -> Any:
    where = ".".join(parents)
    if isinstance(node, dict):
        return node[key]
    if not isinstance(node, list):
        raise _PathError(f"{where} is {node!r}, not a table")
    if not (key.isascii() and key.isdigit()):
        raise _PathError(f"{where} is a list: expected a position such as {where}.0, not {key!r}")
    if int(key) >= len(node):
        have = f"positions 0 to {len(node) - 1}" if node else "no entries"
        raise _PathError(f"{where} has {have}, not {key}")
    return node[int(key)]


def _is_tag(keys: Keys) -> bool:
    if keys[:2] == ("model", "layers"):
        return keys[-1] == "type"
    if keys[0] == "losses":
        return len(keys) == 3 and keys[2] == "name"
    return len(keys) == 2 and TAG_FIELDS.get(keys[0]) == keys[1]


def _parse(text: str) -> Any:
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # not TOML, or a number or nesting that Python rejects
        return text
    return table["value"] if len(table) == 1 else text

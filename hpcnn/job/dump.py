"""A job as text, for the run folder, and as plain values, to compare a resumed run with."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpcnn.job.schema import Job

ABSENT = object()


def resolved_toml(job: Job) -> str:
    """Return the whole job as TOML, defaults written out. Reading it gives the same job."""
    return to_toml(toml_settings(job))


def toml_settings(job: Job) -> dict[str, Any]:
    """Return the settings of a job as TOML knows them, which has date types and no null."""
    import msgspec

    dates = (datetime.datetime, datetime.date, datetime.time)
    settings: dict[str, Any] = _without_none(msgspec.to_builtins(job, builtin_types=dates))
    return settings


def to_toml(settings: Mapping[str, Any]) -> str:
    """Return settings as TOML."""
    import msgspec

    return msgspec.toml.encode(settings).decode()


def result_settings(job: Job) -> dict[str, Any]:
    """Return the settings that define the result as plain values: not `name`, `[run]` and those that affect speed."""
    import msgspec

    from hpcnn.job.data import DATA_SPEED_SETTINGS
    from hpcnn.job.schema import SPEED_SETTINGS

    settings: dict[str, Any] = msgspec.to_builtins(job)
    settings["train"] = {key: value for key, value in settings["train"].items() if key not in SPEED_SETTINGS}
    settings["data"] = {key: value for key, value in settings["data"].items() if key not in DATA_SPEED_SETTINGS}
    inputs = settings["model"]["inputs"]
    if inputs:  # their order counts
        settings["model"]["inputs"] = [f"{name} {shape}" for name, shape in inputs.items()]
    return {key: value for key, value in settings.items() if key not in ("name", "run")}


def differing_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return one line for each setting that differs between two results of `result_settings`.

    >>> differing_settings({"train": {"batch_size": 32}}, {"train": {"batch_size": 64}})
    ['train.batch_size: 32 -> 64']
    """
    before, after = dict(leaves(old, "")), dict(leaves(new, ""))
    return [
        f"{key}: {_text(before.get(key, ABSENT))} -> {_text(after.get(key, ABSENT))}"
        for key in dict.fromkeys([*before, *after])
        if before.get(key, ABSENT) != after.get(key, ABSENT)
    ]


def flat_settings(job: Job) -> dict[str, str | int | float]:
    """Return every setting by its dotted key, such as ``train.batch_size``; lists as text."""
    import msgspec

    plain = leaves(msgspec.to_builtins(job), "")
    return {key: value if isinstance(value, str | int | float) else _text(value) for key, value in plain}


def leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield each setting with its dotted key. A list of plain values is one setting, a list of tables is many."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from leaves(inner, f"{key}.{name}" if key else name)
    elif isinstance(value, list) and value and all(isinstance(entry, Mapping) for entry in value):
        for place, inner in enumerate(value):
            yield from leaves(inner, f"{key}.{place}")
    elif value is not None:
        yield key, value


def _text(value: Any) -> str:
    return "none" if value is ABSENT else json.dumps(value, ensure_ascii=False)


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    return [_without_none(inner) for inner in value] if isinstance(value, list) else value

"""Checks the contents of a TOML file against the schema, and reports the first error in terms of the file."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn

from msgspec import NODEFAULT
from msgspec import inspect as kinds

from hpcnn.core.conversion import type_info
from hpcnn.errors import JobError, nearest
from hpcnn.job.schema import Job

Path = tuple[str | int, ...]
"""Keys and list positions, from the top of the file down."""

TAG_NAMES = {"data": "source of data", "layers": "layer type", "loss": "loss", "optimizer": "optimizer"}

EXAMPLES = {
    "activation": '"relu"',
    "data": '"digits"',
    "dims": "[2, 1]",
    "every": "10",
    "filters": "32",
    "folder": '"data/mnist"',
    "function": '"my_loss"',
    "input_dim": "1000",
    "kernel_size": "3",
    "key_dim": "32",
    "kind": '"linear"',
    "layer": '"encoder"',
    "layers": '[{ type = "dense", units = 64, activation = "relu" }]',
    "loss": '"mse"',
    "modes": "12",
    "n": "10",
    "name": '"iris"',
    "num_heads": "8",
    "output_dim": "64",
    "path": '"data/train"',
    "rate": "0.5",
    "samples": "1000",
    "shape": "[28, 28, 1]",
    "shards": '"data/train-{000..127}.tar"',
    "stddev": "0.1",
    "targets": '["price"]',
    "units": "64",
    "steps": "24",
    "x_path": '"data/x.npy"',
    "y_path": '"data/y.npy"',
}
"""A value for each key that has no default."""


class SettingError(JobError):
    """An error in one setting; `path` says which."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(message)
        self.path = path


@functools.cache
def job_type() -> kinds.StructType:
    """Return the schema of a whole job file."""
    info = type_info(Job)
    assert isinstance(info, kinds.StructType)
    return info


def members(kind: kinds.Type) -> tuple[kinds.Type, ...]:
    """Return the alternatives of a type without None, which TOML can't express."""
    alternatives = kind.types if isinstance(kind, kinds.UnionType) else (kind,)
    return tuple(one for one in alternatives if not isinstance(one, kinds.NoneType))


def tables(kind: kinds.Type) -> tuple[kinds.StructType, ...]:
    """Return the tables among the alternatives of a type or of the entries of a list."""
    inner = tuple(one.item_type for one in members(kind) if isinstance(one, kinds.ListType))
    return tuple(t for one in (inner or (kind,)) for t in members(one) if isinstance(t, kinds.StructType))


def dotted(path: Path) -> str:
    """Return a path as it is written after ``--set``.

    >>> dotted(("model", "layers", 0, "units"))
    'model.layers.0.units'
    """
    return ".".join(map(str, path))


def check(value: object, kind: kinds.Type, path: Path = ()) -> None:
    """Raise SettingError for the first thing in `value` that the schema does not allow."""
    if not isinstance(kind, kinds.ListType) and (choices := tables(kind)):
        _check_table(value, choices, path)
        return
    for one in members(kind):
        if isinstance(one, kinds.DictType) and isinstance(value, dict):
            for key, entry in value.items():
                check(entry, one.value_type, (*path, key))
            return
        if isinstance(one, kinds.ListType) and isinstance(value, list) and len(value) >= (one.min_length or 0):
            for place, entry in enumerate(value):
                check(entry, one.item_type, (*path, place))
            return
    if not any(_fits(value, one) for one in members(kind)):
        _refuse(value, kind, path)


def _check_table(value: object, choices: Sequence[kinds.StructType], path: Path) -> None:
    if not isinstance(value, dict):
        raise SettingError(path, f"{dotted(path)} = {show(value)}: expected a table")
    table = _choose(value, choices, path)
    fields = {field.encode_name: field for field in table.fields}
    known = [*fields, table.tag_field] if table.tag_field else list(fields)
    for key in value:
        if key not in known:
            _refuse_key(key, known, path, table)
    for key, field in fields.items():
        needed = field.default is NODEFAULT and field.default_factory is NODEFAULT
        if not path and key == "loss":
            needed = "losses" not in value
        if key not in value and needed:
            _miss(key, field.type, path, table)
    for key, entry in value.items():
        if key in fields:
            check(entry, fields[key].type, (*path, key))


def _choose(value: dict[str, object], choices: Sequence[kinds.StructType], path: Path) -> kinds.StructType:
    """Return the table that the tag of `value` selects."""
    tag_field = choices[0].tag_field
    if tag_field is None:
        return choices[0]
    by_tag = {str(choice.tag): choice for choice in choices}
    name = next(key for key in reversed(path) if isinstance(key, str))
    name = "loss" if path[:1] == ("losses",) else name
    what, known = TAG_NAMES.get(name, name), ", ".join(sorted(by_tag))
    if tag_field not in value:
        raise SettingError(path, f"missing key {tag_field!r} in {_place(path)}: which {what}? Known: {known}.")
    tag = value[tag_field]
    if not isinstance(tag, str) or tag not in by_tag:
        raise SettingError(
            (*path, tag_field), f"unknown {what} {tag!r} in {_place(path)}.{nearest(str(tag), by_tag)} Known: {known}."
        )
    return by_tag[tag]


def _refuse_key(key: str, known: Sequence[str], path: Path, table: kinds.StructType) -> NoReturn:
    homes = _homes(key)
    place = f" {key!r} is a setting of {', and of '.join(homes)}." if homes else ""
    hint = place if homes and not path else nearest(key, known) + place  # no section has the name of a setting
    owner = f" of {table.tag_field} {table.tag!r}" if table.tag_field else ""
    raise SettingError(
        (*path, key),
        f"unknown {'key' if path else 'section or key'} {key!r} in {_place(path)}{owner}.{hint} "
        f"Known: {', '.join(sorted(known))}.",
    )


def _miss(key: str, kind: kinds.Type, path: Path, table: kinds.StructType) -> NoReturn:
    choices = tables(kind)
    if not path and choices:
        tag_field = choices[0].tag_field
        example = f"{tag_field} = {EXAMPLES[key]}" if tag_field else f"layers = {EXAMPLES['layers']}"
        raise SettingError((key,), f"missing section [{key}]. Add it, for example:\n[{key}]\n{example}")
    owner = f" of {table.tag_field} {table.tag!r}" if table.tag_field else ""
    raise SettingError(
        path, f"missing key {key!r} in {_place(path)}{owner}: {describe(kind)}. Example: {key} = {EXAMPLES[key]}"
    )


def _refuse(value: object, kind: kinds.Type, path: Path) -> NoReturn:
    only = members(kind)[0] if len(members(kind)) == 1 else kind
    if isinstance(only, kinds.LiteralType) and isinstance(value, str):
        name = str(path[-1]) if isinstance(path[-1], str) else str(path[-2]).removesuffix("s")
        known = [str(one) for one in only.values]
        raise SettingError(
            path,
            f"{dotted(path)}: unknown {name.replace('_', ' ')} {value!r}.{nearest(value, known)} "
            f"Known: {', '.join(known)}.",
        )
    raise SettingError(path, f"{dotted(path)} = {show(value)}: expected {describe(kind)}")


def _fits(value: object, kind: kinds.Type) -> bool:
    match kind:
        case kinds.IntType():  # bool is an int to Python, but not to TOML
            return type(value) is int and -(2**63) <= value < 2**63 and _in_range(value, kind)
        case kinds.FloatType():
            return type(value) in (int, float) and _in_range(value, kind)  # type: ignore[arg-type]
        case kinds.StrType():
            return isinstance(value, str) and (kind.min_length or 0) <= len(value) <= (kind.max_length or sys.maxsize)
        case kinds.BoolType():
            return isinstance(value, bool)
        case kinds.LiteralType():
            return isinstance(value, str) and value in kind.values
        case kinds.DictType():
            return isinstance(value, dict)
    return isinstance(kind, kinds.AnyType)


def _in_range(value: float, kind: kinds.IntType | kinds.FloatType) -> bool:
    return (
        abs(value) <= sys.float_info.max  # False for nan and inf, which TOML can write
        and (kind.gt is None or value > kind.gt)
        and (kind.ge is None or value >= kind.ge)
        and (kind.lt is None or value < kind.lt)
        and (kind.le is None or value <= kind.le)
    )


def describe(kind: kinds.Type, *, many: bool = False) -> str:
    """Describe the allowed values of a setting.

    >>> describe(kinds.type_info(int))
    'an integer'
    >>> describe(kinds.type_info(list[float]))
    'a list of numbers'
    """
    if isinstance(kind, kinds.UnionType):
        return (" or " if many else ", or ").join(describe(one, many=many) for one in members(kind))
    if isinstance(kind, kinds.LiteralType):
        names = [f'"{name}"' for name in kind.values]
        return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    if isinstance(kind, kinds.BoolType):
        return "true or false"
    one, more = _noun(kind)
    return (more if many else one) + _bounds(kind)


def _noun(kind: kinds.Type) -> tuple[str, str]:
    match kind:
        case kinds.IntType():
            return "an integer", "integers"
        case kinds.FloatType():
            return "a number", "numbers"
        case kinds.StrType():
            return ("a non-empty string", "non-empty strings") if kind.min_length else ("a string", "strings")
        case kinds.ListType():
            entries = describe(kind.item_type, many=True) if not tables(kind) else "tables"
            return f"a {'non-empty ' if kind.min_length else ''}list of {entries}", f"lists of {entries}"
        case kinds.StructType() | kinds.DictType():
            return "a table", "tables"
    return "any value", "any values"


def _bounds(kind: kinds.Type) -> str:
    if not isinstance(kind, kinds.IntType | kinds.FloatType):
        return ""
    signs = {">": kind.gt, ">=": kind.ge, "<": kind.lt, "<=": kind.le}
    given = [f"{sign} {bound:.15g}" for sign, bound in signs.items() if bound is not None]
    return " " + " and ".join(given) if given else ""


def show(value: object) -> str:
    """Return a value in TOML-like notation, shortened to fit a message."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _place(path: Path) -> str:
    return f"[{dotted(path)}]" if path else "the job file"


def _homes(key: str) -> list[str]:
    """Describe where a key is allowed: its section, and the kinds if not all have the key."""
    homes = []
    for path, choices in _sections(job_type(), ()):
        owners = [one for one in choices if any(field.encode_name == key for field in one.fields)]
        if len(owners) == len(choices):
            homes.append(_place(path))
        elif owners:
            homes.append(f"{_place(path)} of {owners[0].tag_field} {' or '.join(repr(one.tag) for one in owners)}")
    return homes


def _sections(table: kinds.StructType, path: Path) -> Iterator[tuple[Path, tuple[kinds.StructType, ...]]]:
    """Yield the path of each table of the job file with its possible kinds."""
    yield path, (table,)
    for field in table.fields:
        if choices := tables(field.type):
            place = (*path, field.encode_name)
            yield place, choices
            if len(choices) == 1:  # the layers inside a residual layer are not a new path
                yield from list(_sections(choices[0], place))[1:]

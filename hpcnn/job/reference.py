"""The reference of all settings, generated from the schema and the docstrings of its fields.

``python -m hpcnn.job.reference docs/settings.md`` writes it between the two markers of a Markdown file.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path

from msgspec import NODEFAULT
from msgspec import inspect as kinds

from hpcnn.core.conversion import type_info
from hpcnn.errors import EXIT_BAD_INPUT, EXIT_DONE, JobError
from hpcnn.job.models import OPTIONS
from hpcnn.job.validate import describe, job_type, show, tables
from hpcnn.system.atomic import write_text

_OPTIONS = "model.options"
BEGIN, END = "<!-- settings:begin -->", "<!-- settings:end -->"
WIDTH = 79


@dataclass(frozen=True)
class Setting:
    """One row of the reference."""

    section: str
    """Dotted name of the table; empty for the top of the file."""
    kind: str
    """The kinds of the section that have the key, such as ``sgd, rmsprop``; empty for all."""
    key: str
    type: str
    """The allowed values, in words."""
    default: str
    """In TOML; ``required``, or ``none`` where leaving it out has a meaning of its own."""
    text: str
    """What it does."""


def settings() -> list[Setting]:
    """Return every setting of a job file, section by section."""
    found = list(_section((job_type(),), ""))
    end = next(
        place for place, row in enumerate(found, 1) if row.section == "model" and found[place].section != "model"
    )
    return [*found[:end], *_model_options(), *found[end:]]


def _model_options() -> Iterator[Setting]:
    """Yield the sizes of each network that has a name, which the schema holds apart."""
    for name, section in OPTIONS.items():
        info = type_info(section)
        assert isinstance(info, kinds.StructType)
        for field in info.fields:
            yield _setting(_OPTIONS, name, field, section)


def _section(choices: Sequence[kinds.StructType], section: str) -> Iterator[Setting]:
    if tag_field := choices[0].tag_field:
        yield Setting(section, "", str(tag_field), "one of the kinds listed here", "required", "The kind.")
    inner: list[tuple[tuple[kinds.StructType, ...], str]] = []
    for owner in dict.fromkeys(_owner(choice.cls, field.name) for choice in choices for field in choice.fields):
        members = [choice for choice in choices if issubclass(choice.cls, owner)]
        kind = "" if len(members) == len(choices) else ", ".join(str(member.tag) for member in members)
        for field in members[0].fields:
            if _owner(members[0].cls, field.name) is owner:
                if (below := tables(field.type)) and not {one.cls for one in below} & {one.cls for one in choices}:
                    inner.append((below, f"{section}.{field.encode_name}".removeprefix(".")))
                if section or not below:
                    yield _setting(section, kind, field, owner)
    for below, name in inner:
        yield from _section(below, name)


def _setting(section: str, kind: str, field: kinds.Field, owner: type) -> Setting:
    type_text = describe(field.type).removeprefix("an ").removeprefix("a ")
    return Setting(section, kind, field.encode_name, type_text, _default(field), _texts(owner)[field.name])


def _default(field: kinds.Field) -> str:
    value = field.default_factory() if field.default_factory is not NODEFAULT else field.default
    if value is NODEFAULT:
        return "required"
    return "none" if value is None else show(value)


def _owner(cls: type, field: str) -> type:
    return next(base for base in cls.__mro__ if field in inspect.get_annotations(base))


@functools.cache
def _texts(cls: type) -> dict[str, str]:
    """Return the string that follows each field in the source of a class; Python discards them."""
    return {
        field.target.id: str(after.value.value)
        for field, after in pairwise(_source(cls).body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
    }


def section_texts() -> dict[str, tuple[str, dict[str, str]]]:
    """Return, for each section, its text and the text of each of its kinds."""
    top = job_type()
    found = {"": ("At the top of the file.", dict[str, str]())}
    todo = [(field, top.cls, "") for field in top.fields]
    for field, cls, parent in todo:  # grows while it is read
        below = tables(field.type)
        name = f"{parent}.{field.encode_name}".removeprefix(".")
        if not below or name.endswith(".layers.layers"):
            continue
        tags = {str(choice.tag): _first_line(choice.cls) for choice in below if choice.tag_field}
        found[name] = (_first_line(below[0].cls) if parent and not tags else _texts(cls)[field.name], tags)
        todo += [(inner, choice.cls, name) for choice in below for inner in choice.fields]
    tags = {name: _first_line(section) for name, section in OPTIONS.items()}
    return found | {
        _OPTIONS: ("The sizes of a network that `model.name` names; with `model.entry`, its arguments.", tags)
    }


def _first_line(cls: type) -> str:
    return (ast.get_docstring(_source(cls)) or "").splitlines()[0]  # `python -OO` leaves no __doc__


def _source(cls: type) -> ast.ClassDef:
    (definition,) = ast.parse(inspect.getsource(cls)).body
    assert isinstance(definition, ast.ClassDef)
    return definition


def as_markdown() -> str:
    """Return the reference as Markdown: for each section its keys, and for each of its kinds those that it adds."""
    lines: list[str] = []
    texts = section_texts()
    for section, group in groupby(settings(), key=lambda row: row.section):
        rows = list(group)
        text, tags = texts[section]
        lines += [f"## `[{section}]`" if section else "## Top of the file", "", text, ""]
        lines += _table([row for row in rows if not row.kind])
        for tag, meaning in tags.items():
            lines += [f"### `{tag}`", "", meaning, ""]
            lines += _table([row for row in rows if tag in row.kind.split(", ")])
    return "\n".join(lines)


def _table(rows: Sequence[Setting]) -> Iterator[str]:
    if not rows:
        return
    yield from ("| key | value | default | |", "|---|---|---|---|")
    for row in rows:
        default = row.default if row.default in ("required", "none") else f"`{row.default}`"
        cells = (f"`{row.key}`", row.type, default, row.text)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""


def as_text(width: int = WIDTH) -> str:
    """Return the reference as plain text for a terminal of `width` columns."""
    lines: list[str] = []
    texts = section_texts()
    for section, rows in groupby(settings(), key=lambda row: row.section):
        text, tags = texts[section]
        lines += _wrapped(f"[{section}]  {text}" if section else text, width, "", "    ")
        for tag, meaning in tags.items():
            lines += _wrapped(f"{tag:<16} {meaning}", width, "  ", " " * 19)
        for row in rows:
            only = f" ({row.kind})" if row.kind else ""
            default = row.default if row.default == "required" else f"default {row.default}"
            lines += _wrapped(f"{row.key}{only}: {row.type}; {default}", width, "  ", " " * 6)
            lines += _wrapped(row.text, width, " " * 6, " " * 6)
        lines.append("")
    return "\n".join(lines)


def _wrapped(text: str, width: int, first: str, others: str) -> list[str]:
    return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=others, break_on_hyphens=False)


def rewritten(document: str, name: str) -> str:
    """Return a Markdown document with the reference between its markers updated. JobError: it lacks the markers."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise JobError(f"{name} has no lines {BEGIN} and {END}, in this order: add them where the settings belong")
    return f"{before}{BEGIN}\n\n{as_markdown()}\n{END}{after}"


def main(arguments: Sequence[str]) -> int:
    """Update each named Markdown file, or print the reference if none is named."""
    if not arguments:
        print(as_text())
    for name in arguments:
        try:
            write_text(Path(name), rewritten(Path(name).read_text(encoding="utf-8"), name))
        except (JobError, OSError) as error:
            print(error, file=sys.stderr)
            return EXIT_BAD_INPUT
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

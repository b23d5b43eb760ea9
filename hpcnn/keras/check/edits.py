"""Edits of a script's text, and the lines that they change."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

_NOTHING = b"\0"
"""Marks removed text, and occurs in no script: a line with nothing else is removed too."""


@dataclass(frozen=True)
class Edit:
    """Replaces the part of the script from `start` to `end` by `text`.

    Places are line, from 1, and column in bytes, as `ast` has them.
    """

    start: tuple[int, int]
    end: tuple[int, int]
    text: str | None
    """None: there is no automatic replacement; `why` says what to do."""
    why: str = ""


@dataclass
class Change:
    """Lines to change: from `line` on, `old` becomes `new`, or must be changed by hand (None)."""

    line: int
    old: list[str]
    new: list[str] | None
    why: list[str] = field(default_factory=list)


def span(node: ast.expr | ast.stmt | ast.keyword) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the start and the end of a syntax node."""
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)


def changes(lines: Sequence[bytes], edits: Sequence[Edit]) -> list[Change]:
    """Return the changes of lines that the edits make; edits on the same line are one change."""
    ordered = sorted({(edit.start, edit.end): edit for edit in edits}.values(), key=lambda edit: (edit.start, edit.end))
    groups: list[list[Edit]] = []
    for edit in ordered:
        if groups and edit.start[0] <= max(each.end[0] for each in groups[-1]):
            groups[-1].append(edit)
        else:
            groups.append([edit])
    return [_change(lines, group) for group in groups]


def _change(lines: Sequence[bytes], edits: Sequence[Edit]) -> Change:
    first, last = edits[0].start[0], max(edit.end[0] for edit in edits)
    old = lines[first - 1 : last]
    starts = [0, *accumulate(len(line) + 1 for line in old)]
    text, done = b"", 0
    whole = b"\n".join(old)
    edits = [edit for edit in edits if not any(_within(edit, other) for other in edits)]
    written = [edit for edit in edits if edit.text is not None]
    for edit in written:
        begin, end = (starts[line - first] + column for line, column in (edit.start, edit.end))
        text, done = text + whole[done:begin] + ((edit.text or "").encode() or _NOTHING), end
    remaining = (text + whole[done:]).split(b"\n")
    new = [line.replace(_NOTHING, b"").decode() for line in remaining if line.strip() != _NOTHING]
    why = dict.fromkeys(edit.why for edit in edits if edit.why)
    shown = [line.decode() for line in old]
    return Change(first, shown, new if written else None, list(why))


def _within(edit: Edit, other: Edit) -> bool:
    """Return whether another edit replaces the whole range of an edit."""
    larger = other.start <= edit.start and edit.end <= other.end and (edit.start, edit.end) != (other.start, other.end)
    return larger and other.text is not None


def rewritten(source: str, found: Sequence[Change]) -> str:
    """Return the script with all changes that have new lines."""
    lines = source.split("\n")
    for change in reversed(found):
        if change.new is not None:
            lines[change.line - 1 : change.line - 1 + len(change.old)] = change.new
    return "\n".join(lines)

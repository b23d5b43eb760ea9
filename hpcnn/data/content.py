"""Fingerprints of the data of a run, to recognise them on resume: rows, types, names of columns, SHA-256."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from hpcnn.data.columns import Columns, listed
from hpcnn.data.digests import Beat, digests, is_part, is_sampled, sample, whole
from hpcnn.data.files import FileFacts
from hpcnn.data.rows import Rows, in_memory
from hpcnn.data.source import Source
from hpcnn.data.tables.rows import fields_of
from hpcnn.job import data as schema

PARTS = ("training data", "validation data")
_KINDS = ("inputs", "targets")


class Content(msgspec.Struct, frozen=True):
    """The fingerprint of data. Arrays are inputs and targets of the training data, then of the validation data."""

    shapes: list[tuple[Annotated[int, msgspec.Meta(ge=0)], ...]]
    types: list[Annotated[str, msgspec.Meta(pattern=r"^[<>|][biuf][0-9]{1,2}$")]]
    names: list[str] | None
    """Columns of the inputs, where they have names."""
    sample_sha256: list[str]
    """SHA-256 of the sampled rows of each array and of those before it."""
    sha256: list[str]
    """The same of all rows; empty if an array was too large to read it whole."""
    target_names: list[str] = []
    """Columns of the targets, where they have names."""
    vocabulary: str = ""
    """The characters of a text in the order of their numbers."""
    words_sha256: str = ""
    """SHA-256 of what the numbers of a table stand for; empty if they stand for themselves."""
    others_sha256: str = ""
    """SHA-256 of the sampled rows of the weights and groups of the samples; empty without any."""
    files: list[FileFacts] = []
    """Where they were read from, which does not have to stay the same."""

    def __post_init__(self) -> None:
        arrays = len(self.shapes)
        lists = (self.types, self.sample_sha256, self.sha256 or self.types)
        if arrays not in (2, 4) or any(len(one) != arrays for one in lists) or not all(self.shapes):
            raise ValueError("shapes, types and hashes of the data do not match")
        for name in self.types:
            np.dtype(name)  # a TypeError is an error of validation too

    def nbytes(self, place: int) -> int:
        """Return the size of an array."""
        return math.prod(self.shapes[place]) * np.dtype(self.types[place]).itemsize

    def equals(self, other: Content) -> bool:
        """Return whether two contents are the same, wherever they are stored."""
        return msgspec.structs.replace(self, files=[]) == msgspec.structs.replace(other, files=[])

    @property
    def columns(self) -> Columns | None:
        """Names of the columns, where they have some."""
        return None if self.names is None else Columns(tuple(self.names), tuple(self.target_names))


class DataChange(msgspec.Struct, frozen=True):
    """A change of the data of a run, which went on with them from a step on."""

    step: Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
    text: str


def with_digests(source: Source) -> Source:
    """Return the source of arrays in memory with its SHA-256."""
    return replace(source, digests=tuple(digests(source.arrays)))


def content_of(source: Source, beat: Beat = bool) -> Content | None:
    """Return the fingerprint of data before they are split or scaled; None for data that settings compute.

    `beat` is called regularly: hashing takes seconds per GB.
    """
    if source.computed:
        return None
    arrays = source.arrays
    sampled = digests(arrays, sample, beat)
    if not any(map(is_sampled, arrays)):
        full = sampled
    elif source.digests:
        full = list(source.digests)
    else:
        full = digests(arrays, whole, beat) if all(in_memory(rows) or not is_sampled(rows) for rows in arrays) else []
    names = source.columns.inputs if source.columns else None
    return Content(
        shapes=[rows.shape for rows in arrays],
        types=[rows.dtype.str for rows in arrays],
        names=None if names is None else list(names),
        sample_sha256=sampled,
        sha256=full,
        target_names=list(source.columns.targets) if source.columns else [],
        words_sha256=_words_digest(arrays),
        vocabulary=source.vocabulary,
        others_sha256=digests(source.others, sample, beat)[-1] if source.others else "",
    )


def changes(
    before: Content, now: Content, section: schema.DataSection, when: tuple[str, str] = ("then", "now")
) -> list[str]:
    """Describe the differences between two contents. Values are compared if all else is equal.

    `section` gives the names of the files, `when` the names of the two contents.
    """
    where = [
        f"{name}{_changed_files(before, now, bool(part), when) or _files(section, validation=bool(part))}"
        for part, name in enumerate(PARTS)
    ]
    found = _changed_columns(before.columns, now.columns, when) + _changed_characters(before, now, when)
    for part, name in enumerate(where):
        found += [f"{name}: {text}" for text in _changed_part(before, now, 2 * part, when)]
    if found:
        return found
    hashes = (before.sha256, now.sha256) if before.sha256 and now.sha256 else (before.sample_sha256, now.sample_sha256)
    for place, (then, here) in enumerate(zip(*hashes, strict=True)):
        if then != here:
            part = hashes[0] is before.sample_sha256 and is_part(now.nbytes(place))
            sampled = " (in the part that is compared where data are large)" if part else ""
            return [f"{where[place // 2]}: the values of the {_KINDS[place % 2]} differ{sampled}"]
    if before.words_sha256 != now.words_sha256:
        return [f"{where[0]}: columns or classes have other words, or values of another kind"]
    if before.others_sha256 != now.others_sha256:
        return [f"{where[0]}: the weights or the groups of the samples differ"]
    return []


def _words_digest(arrays: Sequence[Rows]) -> str:
    """Return the SHA-256 of the kinds and words of the columns of tables; empty if all are numbers."""
    kinds = [[(field.kind, field.words) for field in fields_of(rows)] for rows in arrays]
    if all(kind in ("number", "boolean") and not words for fields in kinds for kind, words in fields):
        return ""
    return hashlib.sha256(json.dumps(kinds).encode()).hexdigest()


def _files(section: schema.DataSection, *, validation: bool) -> str:
    """Return the files of a part of the data in parentheses; empty if it has no files of its own."""
    folder = Path(getattr(section, "folder", ""))
    names = [name for name in schema.LOCATIONS if name != "folder" and name.startswith("validation_") == validation]
    files = [path if "://" in path else str(folder / path) for name in names if (path := getattr(section, name, ""))]
    return f" ({', '.join(files)})" if files else ""


def _changed_files(before: Content, now: Content, validation: bool, when: tuple[str, str]) -> str:
    """Return the files of a part in parentheses, with their places and sizes where these changed; empty if unknown."""
    then = {file.setting: file for file in before.files}
    texts = []
    for file in now.files:
        if file.setting.startswith("validation_") != validation:
            continue
        old = then.get(file.setting, file)
        moved = "" if old.path == file.path else f"{old.path} {when[0]}, now "
        sizes = "" if old.size == file.size else f": {old.size} {when[0]}, {file.size} {when[1]}"
        texts.append(f"{moved}{file.path}{sizes}")
    return f" ({'; '.join(texts)})" if texts else ""


def _changed_columns(before: Columns | None, now: Columns | None, when: tuple[str, str]) -> list[str]:
    if before is None or now is None or before.inputs == now.inputs:
        return []
    then, here = before.inputs, now.inputs
    missing = [(there, [name for name in one if name not in other])
               for there, one, other in ((when[0], then, here), (when[1], here, then))]  # fmt: skip
    if any(names for _, names in missing):
        return [f"columns only {there}: {listed(names)}" for there, names in missing if names]
    return [f"the columns are in another order: {listed(then)} {when[0]}, {listed(here)} {when[1]}"]


def _changed_characters(before: Content, now: Content, when: tuple[str, str]) -> list[str]:
    then, here = before.vocabulary, now.vocabulary
    only = ((when[0], sorted(set(then) - set(here))), (when[1], sorted(set(here) - set(then))))
    return [f"characters only {there}: {listed(characters)}" for there, characters in only if characters]


def _changed_part(before: Content, now: Content, place: int, when: tuple[str, str]) -> list[str]:
    """Describe the differences in shape and type of the two arrays from `place` on."""
    counts = [content.shapes[place][0] if place < len(content.shapes) else 0 for content in (before, now)]
    if counts[0] != counts[1]:
        return [f"{counts[0]} rows {when[0]}, {counts[1]} {when[1]}"]
    texts = []
    for i in range(place, min(place + 2, len(before.shapes), len(now.shapes))):
        old, new = ((content.types[i], content.shapes[i][1:]) for content in (before, now))
        if old != new:
            then, here = (f"{np.dtype(dtype).name} of shape {shape}" for dtype, shape in (old, new))
            texts.append(f"a row of the {_KINDS[i % 2]} is {then} {when[0]}, {here} {when[1]}")
    return texts

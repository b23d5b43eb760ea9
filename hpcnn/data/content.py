"""Fingerprints of the data of a run, to recognise them on resume: rows, types, names of columns, SHA-256."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from hpcnn.data.columns import Columns, listed
from hpcnn.data.rows import ArrayRows, Buffer, Rows, in_memory, reshaped_from
from hpcnn.data.source import Source
from hpcnn.data.tables.rows import fields_of
from hpcnn.job import data as schema

SAMPLE_BYTES = 2**26
"""Largest array in bytes that is hashed whole. Of a larger one in a file, a sample of this size is hashed."""
RUNS = 64
"""Number of runs of consecutive rows in the sample, evenly spaced from the first row to the last."""
BLOCK_BYTES = 2**20
"""Bytes hashed between two calls of `beat`."""
PARTS = ("training data", "validation data")
_KINDS = ("inputs", "targets")
Beat = Callable[[], object]
Span = tuple[int, int]


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

    def __post_init__(self) -> None:
        arrays = len(self.shapes)
        lists = (self.types, self.sample_sha256, self.sha256 or self.types)
        if arrays not in (2, 4) or any(len(one) != arrays for one in lists) or not all(self.shapes):
            raise ValueError("shapes, types and hashes of the data do not match")
        for name in self.types:
            np.dtype(name)  # a TypeError is an error of validation too

    @property
    def columns(self) -> Columns | None:
        """Names of the columns, where they have some."""
        return None if self.names is None else Columns(tuple(self.names), tuple(self.target_names))


def _row_bytes(rows: Rows) -> int:
    return int(np.prod(rows.shape[1:], dtype=np.int64)) * rows.dtype.itemsize


def is_sampled(rows: Rows) -> bool:
    """Return whether the sample of an array is a part of it. It depends only on shape and type."""
    return rows.shape[0] * _row_bytes(rows) > SAMPLE_BYTES


def sample(rows: Rows) -> list[Span]:
    """Return the sampled rows as ranges, which do not depend on how the array is stored."""
    n, row_bytes = rows.shape[0], _row_bytes(rows)
    if not is_sampled(rows):
        return [(0, n)]
    length = max(1, SAMPLE_BYTES // RUNS // row_bytes)
    runs = min(n, max(2, min(RUNS, SAMPLE_BYTES // (length * row_bytes))))
    starts = [i * (n - length) // max(1, runs - 1) for i in range(runs)]
    return [(start, start + length) for start in starts]


def whole(rows: Rows) -> list[Span]:
    """Return all rows, as one range."""
    return [(0, rows.shape[0])]


def _blocks(rows: Rows, span: Span) -> Iterator[NDArray[np.uint8]]:
    """Yield the bytes of a range of rows; each block is valid until the next one."""
    rows = reshaped_from(rows)
    buffer, step = Buffer(rows.shape[1:], rows.dtype), max(1, BLOCK_BYTES // max(1, _row_bytes(rows)))
    for start in range(*span, step):
        stop = min(start + step, span[1])
        if isinstance(rows, ArrayRows):
            values = rows.array[start:stop]
        else:
            values = buffer.rows(stop - start)
            rows.take(np.arange(start, stop, dtype=np.int64), values)
        yield values.reshape(-1).view(np.uint8)


def digests(arrays: Sequence[Rows], chosen: Callable[[Rows], list[Span]] = whole, beat: Beat = bool) -> list[str]:
    """Return, for each array, the SHA-256 of the `chosen` rows of it and of all arrays before it.

    >>> one, two = ArrayRows(np.arange(3)), ArrayRows(np.ones(3))
    >>> digests([one, two])[0] == digests([one])[0]
    True
    """
    sha256, found = hashlib.sha256(), []
    for rows in arrays:
        sha256.update(f"{rows.dtype.str} {rows.shape}\n".encode())
        for span in chosen(rows):
            for block in _blocks(rows, span):
                sha256.update(block.data)
                beat()
        found.append(sha256.hexdigest())
    return found


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
    )


def changes(
    before: Content, now: Content, section: schema.DataSection, when: tuple[str, str] = ("then", "now")
) -> list[str]:
    """Describe the differences between two contents. Values are compared if all else is equal.

    `section` gives the names of the files, `when` the names of the two contents.
    """
    where = [f"{name}{_files(section, validation=bool(part))}" for part, name in enumerate(PARTS)]
    found = _changed_columns(before.columns, now.columns, when) + _changed_characters(before, now, when)
    for part, name in enumerate(where):
        found += [f"{name}: {text}" for text in _changed_part(before, now, 2 * part, when)]
    if found:
        return found
    hashes = (before.sha256, now.sha256) if before.sha256 and now.sha256 else (before.sample_sha256, now.sample_sha256)
    for place, (then, here) in enumerate(zip(*hashes, strict=True)):
        if then != here:
            return [f"{where[place // 2]}: the values of the {_KINDS[place % 2]} differ"]
    if before.words_sha256 != now.words_sha256:
        return [f"{where[0]}: columns or classes have other words, or values of another kind"]
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
    files = [str(folder / path) for name in names if (path := getattr(section, name, ""))]
    return f" ({', '.join(files)})" if files else ""


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

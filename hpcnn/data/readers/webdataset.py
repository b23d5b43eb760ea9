"""Reader of WebDataset's shards: tar archives in which files of one name, but for the ending, are a sample."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from hpcnn.data.columns import Columns
from hpcnn.data.readers.decoded_rows import DecodedRows, File, changed
from hpcnn.data.readers.image_files import read_header
from hpcnn.data.readers.image_forms import alpha_notes, common_form, mask_form
from hpcnn.data.readers.npy import read_any_header
from hpcnn.data.readers.reader import Reader
from hpcnn.data.readers.shard_values import value_rows
from hpcnn.data.readers.tar_members import Member, Members, archive_at, headers_in, printable
from hpcnn.data.readers.tar_patterns import find_shards
from hpcnn.data.rows import Array, Rows
from hpcnn.data.source import Inputs, Source, unread
from hpcnn.data.tables.select import like
from hpcnn.errors import DataError, shortened
from hpcnn.job import data as schema
from hpcnn.job.data_checks import check_source, is_picture

_MOST_TEXT = 2**20
"""Bytes of a file that holds a class, a number or values."""


@dataclass(frozen=True)
class _ArrayForm:
    """A .npy file of one shape and type."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def decode(self, file: File) -> Array:
        """Return the array. DataError: it is damaged, or another one than at the start."""
        try:
            content = file.read_bytes()
        except OSError as error:
            raise unread(file, error.strerror or error) from None
        stream = io.BytesIO(content)
        shape, fortran, dtype = read_any_header(stream, file, len(content))
        if dtype != self.dtype:
            raise changed(file, f"numbers of type {dtype}")
        return np.frombuffer(content, dtype, offset=stream.tell()).reshape(shape, order="F" if fortran else "C")


@dataclass(eq=False)
class _Index:
    """Where the inputs and targets of all samples are."""

    inputs: Members = field(default_factory=Members)
    targets: Members = field(default_factory=Members)
    values: list[bytes] = field(default_factory=list)
    """Contents of the targets, where they are small."""
    left_out: list[str] = field(default_factory=list)
    """Names of files without an ending."""


def _samples(shard: Path, left_out: list[str]) -> Iterator[tuple[str, dict[str, Member]]]:
    """Yield the samples of an archive, the files of each by their endings. DataError: an ending occurs twice in one."""
    archive = archive_at(shard)
    found: dict[str, dict[str, Member]] = {}
    for info in headers_in(shard):
        folder, slash, name = info.name.rpartition("/")
        stem, dot, ending = name.partition(".")
        if not (stem and dot):
            left_out.append(printable(info.name))
            continue
        parts = found.setdefault(folder + slash + stem, {})
        if ending.lower() in parts:
            raise DataError(f"{shard} has two files {printable(info.name)}. Keep one of them.")
        parts[ending.lower()] = Member(archive, info.offset_data, info.size)
    yield from found.items()


def _pick(parts: dict[str, Member], endings: Sequence[str], key: str, shard: Path) -> Member:
    for ending in endings:
        if ending in parts:
            return parts[ending]
    raise DataError(
        f"the sample {printable(key)!r} in {shard} has no file that ends in {' or '.join(endings)}, but "
        f"{shortened(', '.join(map(printable, parts)))}. Correct data.x or data.y, or the archive."
    )


def _index(shards: Sequence[Path], data: schema.WebDataset, *, targets: bool) -> _Index:
    """Return where the inputs are and, with `targets`, those too. DataError: a sample lacks a part."""
    index, inputs = _Index(), data.x.lower().split(";")
    ending = "json" if data.y.startswith("json:") else data.y.lower()
    small = not (is_picture(data.y) or _is_array(data.y))
    for shard in shards:
        for key, parts in _samples(shard, index.left_out):
            index.inputs.append(_pick(parts, inputs, key, shard))
            if targets:
                target = _pick(parts, [ending], key, shard)
                index.targets.append(target)
                index.values += [_small(target)] if small else []
    if not index.inputs:
        raise DataError(f"{shards[0]} holds no samples: files whose names differ in the ending alone.")
    return index


def _small(member: Member) -> bytes:
    if member.size > _MOST_TEXT:
        raise DataError(f"{member} has {member.size:,} bytes, too many for a class or values. Correct data.y.")
    return member.read_bytes()


def _is_array(ending: str) -> bool:
    return ending.lower().rpartition(".")[2] == "npy"


def _array_rows(files: Sequence[Member]) -> DecodedRows:
    """Return arrays as rows. DataError: one is damaged, or is of another shape or type than the first."""
    first = None
    for file in files:
        with file.open("rb") as stream:
            shape, _, dtype = read_any_header(stream, file, file.size)
        if first is None:
            first = _ArrayForm(shape, dtype)
        elif (shape, dtype) != (first.shape, first.dtype):
            raise DataError(
                f"arrays of different kinds: {files[0]} is {first.dtype} of shape {first.shape}, {file} {dtype} of "
                f"shape {shape}. Give all one shape and type."
            )
    assert first is not None
    return DecodedRows(files, first)


def _read(index: _Index, data: schema.WebDataset, *, targets: bool) -> tuple[Rows, Rows | None, tuple[str, ...]]:
    """Return inputs, targets if they are wanted, and warnings."""
    notes: tuple[str, ...] = ()
    if index.left_out:
        notes = (f"files in archives without an ending are left out: {len(index.left_out)}, as {index.left_out[0]}",)
    x: Rows
    if _is_array(data.x):
        x, headers, form = _array_rows(index.inputs), [], None
    else:
        headers = [read_header(one) for one in index.inputs]
        form = common_form(headers, data)
        x, notes = DecodedRows(index.inputs, form), (*alpha_notes(headers), *notes)
    if not targets:
        return x, None, notes
    if is_picture(data.y):
        assert form is not None
        return x, DecodedRows(index.targets, mask_form(data, form, headers, index.targets)), notes
    return (
        x,
        _array_rows(index.targets) if _is_array(data.y) else value_rows(index.values, index.targets, data.y),
        notes,
    )


class WebDatasetReader(Reader[schema.WebDataset]):
    """Reads tar archives."""

    section, endings, holds_targets = schema.WebDataset, (".tar",), True

    def read(self, data: schema.WebDataset, base: Path) -> Source:
        """Read the headers of the archives, and the targets that are small; the rest is decoded when it is taken."""
        check_source(data)
        parts, notes = [], list[str]()
        for pattern in filter(None, (data.shards, data.validation_shards)):
            x, y, said = _read(_index(find_shards(pattern, base), data, targets=True), data, targets=True)
            assert y is not None
            parts.append((x, y))
            notes += said
        return Source(*parts[0], parts[1] if len(parts) > 1 else None, notes=tuple(dict.fromkeys(notes)))

    def settings_for(self, path: str, columns: Columns | None) -> schema.WebDataset:
        """Return settings for an archive with the usual endings."""
        return schema.WebDataset(shards=path)

    def read_inputs(self, path: Path, data: schema.WebDataset, columns: Columns | None, features: int | None) -> Inputs:
        """Read the inputs of an archive; it may lack targets."""
        x, _, notes = _read(_index([path], data, targets=False), data, targets=False)
        return Inputs(x, notes=notes)

    def sample_settings(self, path: str, data: schema.DataSection, columns: Columns | None) -> schema.WebDataset:
        """Return the settings of the job where its data are of this format, else the usual ones, for other archives."""
        settings = data if isinstance(data, schema.WebDataset) else like(self.settings_for(path, columns), data)
        assert isinstance(settings, schema.WebDataset)
        return msgspec.structs.replace(settings, shards=path, validation_shards="", validation_fraction=0.0)

"""Reader of text: windows of characters as integers, and the same one place later as targets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from hpcnn.data.columns import Columns
from hpcnn.data.readers.reader import Reader
from hpcnn.data.rows import Array, Buffer, ComputedRows
from hpcnn.data.sampler import Indices, held_out_count
from hpcnn.data.source import Inputs, Source, check_memory, find_files, unread
from hpcnn.errors import DataError, shortened
from hpcnn.job import data as schema
from hpcnn.job.data_checks import check_source

CODE_POINTS = 0x110000
BYTES_PER_BYTE = 12
"""Memory that a byte of text needs while it is read, at most: text, code points, numbers."""
Ids = NDArray[Any]


class Windows(ComputedRows):
    """Windows of `length` numbers of a sequence: row i begins at ``first + stride i``."""

    portable = True
    """See `hpcnn.training.read_once`."""

    def __init__(self, ids: Ids, first: int, count: int, length: int, stride: int) -> None:
        super().__init__((count, length), ids.dtype)
        self._ids, self._first, self._stride = ids, first, stride
        self._offsets, self._positions = np.arange(length), Buffer((length,), np.int64)
        self._block = self._positions.block

    def _fill(self, rows: Indices, values: Array) -> None:
        positions = self._positions.rows(len(rows))
        np.copyto(positions, self._offsets)
        np.add(positions, (rows * self._stride + self._first)[:, None], out=positions)
        self._ids.take(positions, 0, values, "clip")


def _content(path: Path) -> bytes:
    try:
        check_memory(BYTES_PER_BYTE * path.stat().st_size, path, "Train on a part of the text.")
        return path.read_bytes()
    except OSError as error:
        raise unread(path, error.strerror or error) from None


def _code_points(path: Path) -> NDArray[np.uint32]:
    content = _content(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text: byte {error.start} is {content[error.start]:02x}, counted from 0. Convert it "
            '(iconv -t UTF-8), or set data.units = "byte".'
        ) from None
    return np.frombuffer(text.encode("utf-32-le"), "<u4")


def numbered(path: Path, code_points: NDArray[np.uint32], vocabulary: str) -> Ids:
    """Return the place of each character in the vocabulary. DataError: one of them is not in it."""
    known = np.frombuffer(vocabulary.encode("utf-32-le", "surrogatepass"), "<u4")
    dtype = np.min_scalar_type(len(known))
    numbers = np.full(CODE_POINTS, len(known), dtype)
    numbers[known] = np.arange(len(known))
    ids = numbers[code_points]
    unknown = ids == len(known)
    if unknown.any():
        place = int(unknown.argmax())
        character = chr(code_points[place])
        raise DataError(
            f"{path}: character {place}, counted from 0, is {character!r} (U+{ord(character):04X}), which is not among "
            f"the {len(known)} of the vocabulary: {shortened(vocabulary)!r}. Remove it, or train on text that has it."
        )
    return ids


def read_text(paths: Sequence[Path], data: schema.TextFiles) -> tuple[Ids, str]:
    """Return the numbers of all characters, file after file, and the vocabulary; that of bytes is empty."""
    if data.units == "byte":
        return np.concatenate([np.frombuffer(_content(path), np.uint8) for path in paths]), ""
    texts = [_code_points(path) for path in paths]
    vocabulary = data.vocabulary
    if not vocabulary:
        seen = np.zeros(CODE_POINTS, np.bool_)
        for text in texts:
            seen[text] = True
        vocabulary = "".join(map(chr, np.flatnonzero(seen).tolist()))
    return np.concatenate(
        [numbered(path, text, vocabulary) for path, text in zip(paths, texts, strict=True)]
    ), vocabulary


def _count(characters: int, needed: int, stride: int, what: str, data: schema.TextFiles) -> int:
    """Return the number of windows. DataError: the text is too short for one."""
    if characters < needed:
        target = " and the next" if needed > data.length else ""
        raise DataError(
            f"{what} has {characters} {data.units}s, but a window of data.length = {data.length}{target} needs "
            f"{needed}. Give more text, or shorten the windows."
        )
    return (characters - needed) // stride + 1


class TextReader(Reader[schema.TextFiles]):
    """Reads windows of text."""

    section, holds_targets, any_ending = schema.TextFiles, True, True

    def read(self, data: schema.TextFiles, base: Path) -> Source:
        """Read the text; a fraction for validation is its end. DataError: no UTF-8, or shorter than a window."""
        check_source(data)
        paths = find_files(data.path, base)
        ids, vocabulary = read_text(paths, data)
        what = str(paths[0]) if len(paths) == 1 else f"the text of the {len(paths)} files {data.path}"
        stride = data.stride or data.length

        def windows(first: int, end: int, part: str) -> tuple[Windows, Windows]:
            count = _count(end - first, data.length + 1, stride, f"{part}{what}", data)
            x, y = (Windows(ids, first + shift, count, data.length, stride) for shift in (0, 1))
            return x, y

        held = held_out_count(len(ids), data.validation_fraction) if len(ids) > data.length else 0
        if not held:
            train, validation = windows(0, len(ids), ""), None
        else:
            place = len(ids) - held
            train = windows(0, place, "the part for training of ")
            validation = windows(place, len(ids), "the part for validation of ")
        sha256 = hashlib.sha256(f"{vocabulary!r}\n".encode("utf-8", "surrogatepass"))
        sha256.update(ids.data)
        digests = (sha256.hexdigest(),) * (4 if validation else 2)
        return Source(*train, validation, digests=digests, split=held > 0, vocabulary=vocabulary)

    def read_inputs(self, path: Path, data: schema.TextFiles, columns: Columns | None, features: int | None) -> Inputs:
        """Read the windows of one file, which need no next character; see `Reader.read_inputs`."""
        ids, _ = read_text([path], data)
        stride = data.stride or data.length
        count = _count(len(ids), data.length, stride, str(path), data)
        return Inputs(Windows(ids, 0, count, data.length, stride))

    def sample_settings(self, path: str, data: schema.DataSection, columns: Columns | None) -> schema.TextFiles:
        """Return settings for another text; only a job whose own data are text asks for them."""
        assert isinstance(data, schema.TextFiles)
        return msgspec.structs.replace(data, path=path, validation_fraction=0.0)

"""Reader of `.npy` files: mapped into memory, so that the ranks of a node share one copy."""

from __future__ import annotations

import math
import threading
import tokenize
from pathlib import Path
from typing import Any

import numpy as np

from hpcnn.data.rows import ArrayRows
from hpcnn.data.source import Source, Stream, check_axes, check_numeric, resolve, unread
from hpcnn.errors import JobError
from hpcnn.job import data as schema

HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
PARSER = threading.Lock()
"""NumPy parses headers with `ast`, which fails at random in CPython 3.11 where two threads use it at once."""


def read_header(file: Stream, what: str, available: int) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, Fortran order and type from the header of a `.npy` stream, which is left at the first value.

    Args:
        file: the stream, at its beginning.
        what: name of the array in messages.
        available: bytes of the stream in all, header included.

    Raises:
        DataError: no such header, objects or other things than numbers, or another number of bytes than it declares.
    """
    try:
        version = np.lib.format.read_magic(file)
        if version not in HEADERS:
            raise ValueError(f"version {version} of the format")
        with PARSER:
            shape, fortran, dtype = HEADERS[version](file)
    except (ValueError, SyntaxError, TypeError, EOFError, tokenize.TokenError) as error:
        raise unread(what, f"no valid .npy header ({error})") from None
    check_numeric(dtype, what)
    check_axes(shape, what)
    declared = math.prod(shape) * dtype.itemsize
    held = available - file.tell()
    if min(shape) < 0 or declared != held:
        raise unread(what, f"its header declares {shape} {dtype}, {declared} bytes, but {held} bytes follow")
    return shape, fortran, dtype


def map_rows(
    path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int, *, fortran: bool = False
) -> ArrayRows:
    """Return rows of the array that lies at `offset` in the file. The caller has checked the file's length.

    In Fortran order a row is strewn over the whole file: such an array is read into memory.
    """
    if 0 in shape:
        return ArrayRows(np.empty(shape, dtype))
    mapped = np.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C")
    array = mapped.view(np.ndarray)  # plain: a slice of a memmap costs several times more
    return ArrayRows(array, mapped=array.flags.c_contiguous)


def read_array(path: Path) -> ArrayRows:
    """Return the rows of a `.npy` file.

    Raises:
        DataError: damaged, truncated, or not an array of numbers.
    """
    with path.open("rb") as file:
        shape, fortran, dtype = read_header(file, str(path), path.stat().st_size)
        return map_rows(path, dtype, shape, file.tell(), fortran=fortran)


def read(data: schema.Npy, base: Path) -> Source:
    """Read `[data] source = "npy"`."""
    if bool(data.validation_x_path) != bool(data.validation_y_path):
        given, missing = ("x", "y") if data.validation_x_path else ("y", "x")
        raise JobError(
            f"data.validation_{given}_path is given, but data.validation_{missing}_path is not. Give both, or neither."
        )

    def rows(path: str) -> ArrayRows:
        return read_array(resolve(path, base))

    held_out = (rows(data.validation_x_path), rows(data.validation_y_path)) if data.validation_x_path else None
    return Source(rows(data.x_path), rows(data.y_path), held_out)

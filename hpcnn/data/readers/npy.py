"""Reader of `.npy` files: mapped into memory, so that the ranks of a host share one copy."""

from __future__ import annotations

import io
import math
import threading
import tokenize
import warnings
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from hpcnn.data.columns import Columns
from hpcnn.data.readers.reader import Reader
from hpcnn.data.rows import ArrayRows
from hpcnn.data.source import (
    Inputs,
    Source,
    check_axes,
    check_countable,
    check_memory,
    check_numeric,
    find_folder,
    places,
    resolve,
    unread,
)  # fmt: skip
from hpcnn.errors import DataError, JobError
from hpcnn.job import data as schema

HEADERS = {(1, 0): (np.lib.format.read_array_header_1_0, 2), (2, 0): (np.lib.format.read_array_header_2_0, 4)}
"""For each version of the format, the function that reads the header, and the size of its length field in bytes."""
HEADER_LIMIT = 10_000
"""Largest header that NumPy parses, in bytes. Its functions read the header first, whatever length it declares."""
PARSER = threading.Lock()
"""NumPy parses headers with `ast`, which fails at random in CPython 3.11 if two threads use it at once."""


def _parse_header(file: io.BufferedIOBase) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version not in HEADERS:
        raise ValueError(f"version {version} of the format")
    parse, width = HEADERS[version]
    size = file.read(width)
    length = int.from_bytes(size, "little")
    if length > HEADER_LIMIT:
        raise ValueError(f"its declared length of {length} bytes is more than any array of numbers needs")
    with PARSER, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of how it is written
        shape, fortran, dtype = parse(io.BytesIO(size + file.read(length)))
    return shape, fortran, dtype


Header = tuple[tuple[int, ...], bool, np.dtype[Any]]
"""Shape, Fortran order and type."""


def read_header(file: io.BufferedIOBase, what: object, available: int) -> Header:
    """Return the header of a `.npy` stream of samples, which is left at the first value.

    `available` is the size of the whole stream in bytes, including the header.

    Raises:
        DataError: the header is invalid, the array does not hold numbers, or its size differs from the declared one.
    """
    header = read_any_header(file, what, available)
    check_axes(header[0], what)
    return header


def read_any_header(file: io.BufferedIOBase, what: object, available: int) -> Header:
    """Return the same of an array that may be a single number."""
    try:
        shape, fortran, dtype = _parse_header(file)
    except (ValueError, SyntaxError, TypeError, EOFError, tokenize.TokenError, RecursionError, MemoryError) as error:
        raise unread(what, f"no valid .npy header ({error})") from None
    check_numeric(dtype, what)
    declared = math.prod(shape) * dtype.itemsize
    held = available - file.tell()
    if min(shape, default=0) < 0 or declared != held:
        raise unread(what, f"its header declares {shape} {dtype}, {declared} bytes, but {held} bytes follow")
    check_countable(shape, what)
    return shape, fortran, dtype


def map_rows(
    path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int, *, fortran: bool = False
) -> ArrayRows:
    """Return rows of the array at `offset` in the file. The caller has checked the length of the file.

    In Fortran order a row is spread over the whole file: such an array is read into memory.
    """
    if 0 in shape:
        return ArrayRows(np.empty(shape, dtype))
    mapped = np.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C")
    array = mapped.view(np.ndarray)  # slicing a memmap is several times slower
    if not array.flags.c_contiguous:
        check_memory(array.nbytes, path, "Save the array in C order: such a file is memory-mapped.")
    return ArrayRows(array, mapped=array.flags.c_contiguous)


def read_array(path: Path) -> ArrayRows:
    """Return the rows of a `.npy` file. DataError: damaged, truncated, or not an array of numbers."""
    try:
        with path.open("rb") as file:
            shape, fortran, dtype = read_header(file, str(path), path.stat().st_size)
            return map_rows(path, dtype, shape, file.tell(), fortran=fortran)
    except OSError as error:
        raise unread(path, error.strerror or error) from None


class NpyReader(Reader[schema.Npy]):
    """Reads `.npy` files, one of inputs and one of targets."""

    section, endings = schema.Npy, (".npy",)

    def read(self, data: schema.Npy, base: Path) -> Source:
        """Read the files of inputs and targets, and those for validation if there are any."""
        if data.y_path and bool(data.validation_x_path) != bool(data.validation_y_path):
            given, missing = ("x", "y") if data.validation_x_path else ("y", "x")
            raise JobError(
                f"data.validation_{given}_path is given, but data.validation_{missing}_path is not. Give both, or "
                "neither."
            )

        def pair(x_path: str, y_path: str) -> tuple[ArrayRows, ArrayRows]:
            x = read_array(resolve(x_path, base))
            return x, read_array(resolve(y_path, base)) if data.y_path else x

        held_out = pair(data.validation_x_path, data.validation_y_path) if data.validation_x_path else None
        weights, held_weights, groups = (
            read_array(resolve(path, base)) if path else None
            for path in (data.weights_path, data.validation_weights_path, data.group_path)
        )
        return Source(
            *pair(data.x_path, data.y_path),
            held_out,
            weights=weights,
            validation_weights=held_weights if held_out else None,
            groups=groups,
        )

    def settings_for(self, path: str, columns: Columns | None) -> schema.Npy:
        """Return settings for a file of inputs."""
        return schema.Npy(x_path=path, y_path="")

    def read_inputs(self, path: Path, data: schema.Npy, columns: Columns | None, features: int | None) -> Inputs:
        """Read the array; see `Reader.read_inputs`."""
        return Inputs(read_array(path))

    def pair_settings(self, path: str, data: schema.DataSection, base: Path) -> schema.Npy | None:
        """Return settings for "x.npy,y.npy"; see `Reader.pair_settings`. DataError: a single .npy file."""
        if find_folder(path, base) is not None:
            return None
        x_path, comma, y_path = path.partition(",")
        if comma and any(place.is_file() for place in places(path, base)):  # its name has a comma
            x_path, comma, y_path = path, "", ""
        if path.endswith(".npy") and not comma and isinstance(data, schema.Npy) and not data.y_path:
            return msgspec.structs.replace(data, x_path=path, validation_x_path="", validation_fraction=0.0)
        if path.endswith(".npy") and not comma:
            raise DataError(f"{path!r} contains only inputs. For evaluation give two files, as 'x.npy,y.npy'.")
        return schema.Npy(x_path=x_path.strip(), y_path=y_path.strip()) if comma else None

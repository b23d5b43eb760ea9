"""Arrays that a program hands in: made a source of data, and known again by their hash."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike

from hpcnn.data.rows import ArrayRows
from hpcnn.data.source import Source, check_axes
from hpcnn.errors import DataError
from hpcnn.job import data as schema

Pair = tuple[ArrayLike, ArrayLike]
"""Inputs and targets, one row of each a sample."""


def read(_data: schema.Memory, _base: Path) -> NoReturn:
    """Refuse `[data] source = "memory"`: nothing can be read again.

    Raises:
        DataError: always.
    """
    raise DataError(
        "the data of this job were arrays in the memory of a Python program, and are in no file. Give them to "
        "hpcnn.fit, or to evaluate in Python, again; commands take files (--data of evaluate, INPUT of others)."
    )


def array_source(data: Pair, validation: Pair | None = None) -> Source:
    """Return arrays, or what NumPy makes arrays of, as a source of data.

    Raises:
        DataError: they are no pair, or no arrays of numbers.
    """
    x, y = _pair(data, "data")
    return Source(x, y, None if validation is None else _pair(validation, "validation"))


def array_settings(source: Source) -> dict[str, Any]:
    """Return what `[data]` says of such a source, with its digests, beside what the job says."""
    held = source.validation
    return {
        "source": "memory",
        "x_shape": list(source.x.shape),
        "y_shape": list(source.y.shape),
        "validation_samples": held[0].shape[0] if held else 0,
        "sha256": source.digests[-1],
    }


def array_inputs(x: ArrayLike, what: str = "x") -> ArrayRows:
    """Return inputs of samples; a single number a sample is one feature.

    Raises:
        DataError: they are no array of numbers.
    """
    rows = _rows(x, what)
    return ArrayRows(rows.array.reshape(-1, 1)) if len(rows.shape) == 1 else rows


def _pair(pair: Any, what: str) -> tuple[ArrayRows, ArrayRows]:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise DataError(f"{what} is {type(pair).__name__}; needed is a pair of arrays: {what}=(x, y)")
    return array_inputs(pair[0], f"x of {what}"), _rows(pair[1], f"y of {what}")


def _rows(values: ArrayLike, what: str) -> ArrayRows:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(f"{what} can't be made an array: {error}. Give rows of one length.") from None
    if array.dtype.hasobject or array.dtype.kind not in "biuf":
        raise DataError(f"{what} has dtype {array.dtype}; allowed are booleans, integers and real floats. Convert it.")
    check_axes(array.shape, what)
    return ArrayRows(array)

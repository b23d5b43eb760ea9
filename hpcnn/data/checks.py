"""Checks of raw samples: equal numbers of inputs and targets, finite values. All ranks find the same."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hpcnn.core.formatting import counted
from hpcnn.data.cf_attributes import MarkedRows, marked_rows
from hpcnn.data.reduction import Leaf, Reduction
from hpcnn.data.rows import Array, Chunks, Rows
from hpcnn.errors import DataError, shortened


def first_rows(chunks: Chunks, is_bad: Leaf, reduction: Reduction) -> NDArray[np.float64]:
    """Return, for each column, the first row where ``is_bad(i)``, booleans (k, columns) of chunk i, is true, else n."""
    n = chunks.rows.shape[0]

    def leaf(i: int) -> NDArray[np.float64]:
        bad = is_bad(i)
        return -np.where(bad.any(axis=0), chunks.start(i) + bad.argmax(axis=0), n).astype(np.float64)

    return -reduction.max(len(chunks), leaf)


def column_label(column: int, row_shape: tuple[int, ...], names: Sequence[str] | None) -> str:
    """Return how messages refer to entry `column` of a flattened row.

    >>> column_label(2, (4,), ("a", "b", "c", "d")), column_label(11, (8, 8), None), column_label(0, (), None)
    ("column 'c' (number 2)", 'entry (1, 3) of a sample', 'the column')
    """
    if names is not None and len(names) == math.prod(row_shape):
        return f"column {shortened(names[column])!r} (number {column})"
    if not row_shape:
        return "the column"
    if len(row_shape) == 1:
        return f"column {column}"
    return f"entry {tuple(int(i) for i in np.unravel_index(column, row_shape))} of a sample"


def check_finite(
    rows: Rows, what: str, dtype: DTypeLike, reduction: Reduction, names: Sequence[str] | None = None
) -> None:
    """Raise DataError on all ranks if a value is missing, or is not finite after the cast to `dtype`.

    The message names the first such column, how many of its values are bad, the first of their rows, and how many
    other columns are affected. `what` names the rows, as "inputs of the training data".
    """
    for marked in marked_rows(rows):
        whole = math.prod(marked.shape) == math.prod(rows.shape)
        _check_marked(marked, what if whole else f"{what}, {marked.what}", reduction, names)
    if rows.dtype.kind != "f":
        return
    chunks = Chunks(rows, dtype)

    def bad(i: int) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):  # becomes infinite or NaN, which is reported below
            values = chunks[i]
        return _by_row(~np.isfinite(values))

    why = f"not finite (NaN, infinite, or too large for {np.dtype(dtype).name})"
    check_each(chunks, bad, what, why, reduction, names)


def _check_marked(rows: MarkedRows, what: str, reduction: Reduction, names: Sequence[str] | None) -> None:
    stored, marks = Chunks(rows, rows.dtype), rows.marks
    why = f"marked as missing in the file ({marks.text})"
    check_each(stored, lambda i: _by_row(marks(stored[i])), what, why, reduction, names, marks.remedy)


def _by_row(bad: Array) -> Array:
    return bad.reshape(len(bad), -1)


def check_each(
    chunks: Chunks, bad: Leaf, what: str, why: str, reduction: Reduction, names: Sequence[str] | None, remedy: str = ""
) -> None:
    """Raise DataError if ``bad(i)``, booleans (k, columns) of chunk i, is true anywhere."""
    rows = chunks.rows
    counts = reduction.sum(len(chunks), lambda i: bad(i).sum(axis=0, dtype=np.float64))
    columns = np.flatnonzero(counts)
    if not len(columns):
        return
    column = int(columns[0])
    row = int(first_rows(chunks, bad, reduction)[column])
    bad_values = f"{counted(int(counts[column]), 'value')} of {rows.shape[0]:,}"
    verb = "is" if counts[column] == 1 else "are"
    more = len(columns) - 1
    others = f"; {counted(more, 'other column')} {'has' if more == 1 else 'have'} such values, too" if more else ""
    raise DataError(
        f"{what}: {column_label(column, rows.shape[1:], names)} holds {bad_values} that {verb} {why}, the first "
        f"in row {row}, all counted from 0{others}. Clean the data: fill or drop what is missing"
        f"{remedy}."
    )


def check_not_empty(x: Rows, what: str) -> None:
    """Raise DataError unless there is at least one sample with at least one entry."""
    if 0 in x.shape:
        raise DataError(f"{what}: inputs of shape {x.shape} are empty. At least one sample is needed.")


def check_counts(x: Rows, y: Rows, what: str) -> None:
    """Raise DataError unless there are as many inputs as targets."""
    if x.shape[0] != y.shape[0]:
        raise DataError(
            f"{what}: {x.shape[0]} inputs (shape {x.shape}), but {y.shape[0]} targets (shape {y.shape}). "
            "The first axis of both is that of the samples and must have the same length."
        )


def check_samples(
    x: Rows,
    y: Rows,
    what: str,
    dtypes: tuple[DTypeLike, DTypeLike],
    reduction: Reduction,
    names: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
) -> None:
    """Raise DataError unless there are as many inputs as targets, at least one, and all are finite in `dtypes`.

    `names` and `targets` are those of the columns, if they have some.
    """
    check_counts(x, y, what)
    check_not_empty(x, what)
    check_finite(x, f"inputs of {what}", dtypes[0], reduction, names)
    check_finite(y, f"targets of {what}", dtypes[1], reduction, targets)

"""Checks of the values of targets, with the first row that is wrong. All are collective where `reduction` is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hpcnn.data.checks import first_rows
from hpcnn.data.reduction import Reduction
from hpcnn.data.rows import Array, Chunks, Rows
from hpcnn.errors import DataError


def count_bad(chunks: Chunks, is_bad: Callable[[Array], Array], reduction: Reduction) -> tuple[int, int]:
    """Return how many values are bad, and the first row with such a one (n if there is none)."""

    def bad(i: int) -> Array:
        values = chunks[i]
        return is_bad(values).reshape(len(values), -1)

    total = int(reduction.sum(len(chunks), lambda i: np.array([np.count_nonzero(bad(i))], np.float64))[0])
    return (total, int(first_rows(chunks, bad, reduction).min())) if total else (0, chunks.rows.shape[0])


def value_range(chunks: Chunks, reduction: Reduction, ignored: int | None = None) -> tuple[float, float]:
    """Return the least and the largest value; infinite ones if all are ignored."""

    def leaf(i: int) -> Array:
        values = chunks[i] if ignored is None else chunks[i][chunks[i] != ignored]
        return np.array([-values.min(initial=np.inf), values.max(initial=-np.inf)], np.float64)

    negative_low, high = reduction.max(len(chunks), leaf)
    return float(-negative_low), float(high)


def check_whole(y: Rows, what: str, reduction: Reduction) -> None:
    """Raise DataError unless all labels are whole numbers. Collective."""
    if y.dtype.kind != "f":
        return
    count, row = count_bad(Chunks(y, np.float64), lambda values: values != np.floor(values), reduction)
    if count:
        raise DataError(
            f"{what}: {count} labels are not whole numbers, the first in row {row}, counted from 0. "
            "Labels number the classes from 0; for other targets choose a loss of values, as 'mse'."
        )


def check_labels(y: Rows, classes: int, what: str, reduction: Reduction, ignored: int | None) -> None:
    """Raise DataError unless all labels number a class, or are ignored. Collective."""
    check_whole(y, what, reduction)
    chunks = Chunks(y, np.float64)
    low, high = value_range(chunks, reduction, ignored)
    if low < 0 or high >= classes:

        def is_bad(values: Array) -> Array:
            bad: Array = (values < 0) | (values >= classes)
            return bad if ignored is None else bad & (values != ignored)

        count, row = count_bad(chunks, is_bad, reduction)
        left_out = "" if ignored is None else f", and {ignored} for what is ignored"
        raise DataError(
            f"{what}: labels run from {low:.0f} to {high:.0f}, but a model with {classes} outputs allows 0 to "
            f"{classes - 1}{left_out}; {count} are outside, the first in row {row}, counted from 0. Number the classes "
            "from 0, and give the last layer one unit a class."
        )


def check_sequences(y: Rows, output_shape: tuple[int, ...], what: str, reduction: Reduction) -> None:
    """Raise DataError unless rows (n, length) are labels from 1 on, padded at their end, that fit into the steps."""
    steps, classes = output_shape
    chunks = Chunks(y, np.float64)
    high = value_range(chunks, reduction)[1]
    if high >= classes:
        count, row = count_bad(chunks, lambda values: values >= classes, reduction)
        raise DataError(
            f"{what}: labels run up to {high:.0f}, but a model with {classes} outputs allows 1 to {classes - 1}, with "
            f"0 for the blank and for padding; {count} are outside, the first in row {row}, counted from 0. Give the "
            "last layer one unit for each label, and one for the blank."
        )
    count, row = count_bad(chunks, lambda values: (values[:, 1:] > 0) & (values[:, :-1] <= 0), reduction)
    if count:
        raise DataError(
            f"{what}: labels come after padding, the first in row {row}, counted from 0. Labels are 1 to "
            f"{classes - 1}; 0 or a negative number is padding, at the end of a row alone."
        )

    def too_long(values: Array) -> Array:
        repeated = (values[:, 1:] == values[:, :-1]) & (values[:, 1:] > 0)
        bad: Array = (values > 0).sum(axis=1) + repeated.sum(axis=1) > steps
        return bad

    count, row = count_bad(chunks, too_long, reduction)
    if count:
        raise DataError(
            f"{what}: {count} rows have more labels than the {steps} steps of the model's outputs can hold, the first "
            f"is row {row}, counted from 0. Each label takes a step, and a label that is repeated a blank before it: "
            "leave such rows out, or let the model have more steps."
        )

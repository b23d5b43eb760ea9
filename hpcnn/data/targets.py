"""Targets as the loss wants them: labels in range, one-hot rows, or values of the shape of the model's output."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hpcnn.data.reduction import SERIAL, Reduction
from hpcnn.data.rows import CastRows, Chunks, OneHotRows, ReshapedRows, Rows, materialize
from hpcnn.data.samples import Samples, Splits
from hpcnn.data.target_checks import check_labels, check_sequences, check_whole, count_bad, value_range
from hpcnn.errors import DataError, JobError

Kind = Literal["labels", "values", "sequences", "any"]

_PROBABILITIES = ("kl_divergence", "dice", "iou")
"""Losses of probabilities from 0 to 1, beside all whose names end in crossentropy."""
_NOT_NEGATIVE = ("poisson", "msle")


def _shaped(y: Rows, row_shape: tuple[int, ...]) -> Rows:
    return y if y.shape[1:] == row_shape else ReshapedRows(y, row_shape)


def _whole_rows(y: Rows, row_shape: tuple[int, ...]) -> Rows:
    labels = materialize(_shaped(y, row_shape), np.int64)
    return labels if labels.dtype.kind in "iu" else CastRows(labels, np.int64)  # of a file that is mapped, or large


def _labels(
    y: Rows,
    output_shape: tuple[int, ...],
    what: str,
    loss_name: str,
    reduction: Reduction,
    ignored: int | None = None,
) -> Rows:
    row_shape = output_shape[:-1]
    if math.prod(y.shape[1:]) != math.prod(row_shape):
        hint = ""
        if y.shape[1:] == output_shape and loss_name == "sparse_categorical_crossentropy":
            hint = " If these are one-hot rows, choose the loss 'categorical_crossentropy'."
        raise DataError(
            f"{what} have shape {y.shape[1:]} a sample, but labels for outputs of shape {output_shape} have shape "
            f"{row_shape}.{hint}"
        )
    check_labels(y, output_shape[-1], what, reduction, ignored)
    return _whole_rows(y, row_shape)


def _sequences(y: Rows, output_shape: tuple[int, ...], what: str, reduction: Reduction) -> Rows:
    if len(y.shape) > 2:
        raise DataError(
            f"{what} have shape {y.shape[1:]} a sample, but the loss 'ctc' takes one row of labels a sample."
        )
    rows = _shaped(y, (y.shape[1] if len(y.shape) == 2 else 1,))
    check_whole(rows, what, reduction)
    check_sequences(rows, output_shape, what, reduction)
    return _whole_rows(rows, rows.shape[1:])


def _values(y: Rows, output_shape: tuple[int, ...], what: str, loss_name: str, reduction: Reduction) -> Rows:
    if math.prod(y.shape[1:]) != math.prod(output_shape):
        hint = " Change the units of the last layer, or the targets."
        if math.prod(y.shape[1:]) == 1:
            hint = " If these are labels of classes, set data.one_hot = true"
            sparse = loss_name == "categorical_crossentropy"
            hint += ", or choose the loss 'sparse_categorical_crossentropy'." if sparse else "."
        raise DataError(
            f"{what} have shape {y.shape[1:]} a sample, but the model's outputs have shape {output_shape}.{hint}"
        )
    if loss_name in _NOT_NEGATIVE and value_range(Chunks(y, np.float64), reduction)[0] < 0:
        count, row = count_bad(Chunks(y, np.float64), lambda values: values < 0, reduction)
        raise DataError(
            f"{what}: {count} values are below 0, the first in row {row}, counted from 0, but {loss_name} needs values "
            "of at least 0. Choose another loss, as 'mse', or change the targets."
        )
    if loss_name.endswith("crossentropy") or loss_name in _PROBABILITIES:
        low, high = value_range(Chunks(y, np.float64), reduction)
        if low < 0 or high > 1:
            raise DataError(
                f"{what} run from {low:g} to {high:g}, but {loss_name} needs probabilities from 0 to 1. "
                "Number two classes 0 and 1; for more of them use one-hot rows."
            )
    return _shaped(y, output_shape)


def prepare_samples(
    samples: Samples,
    *,
    kind: Kind,
    one_hot: bool,
    output_shape: tuple[int, ...],
    loss_name: str,
    ignore_class: int | None = None,
    what: str = "the targets",
    reduction: Reduction = SERIAL,
) -> Samples:
    """Return the samples with targets as the loss wants them; see `prepare_targets`."""
    if kind == "any" and one_hot:
        raise JobError(
            f"data.one_hot = true makes one-hot rows of the targets, but the loss {loss_name!r} reads none. "
            "Set data.one_hot = false."
        )
    if kind == "any":
        return samples
    if kind != "values" and one_hot:
        raise JobError(
            f"data.one_hot = true makes one-hot rows, but the loss {loss_name!r} takes integer labels. "
            "Set data.one_hot = false, or choose the loss 'categorical_crossentropy'."
        )
    if kind == "sequences":
        return replace(samples, y=_sequences(samples.y, output_shape, what, reduction))
    if kind == "labels" or one_hot:
        y = _labels(samples.y, output_shape, what, loss_name, reduction, ignore_class)
        return replace(samples, y=OneHotRows(y, output_shape[-1]) if one_hot else y)
    return replace(samples, y=_values(samples.y, output_shape, what, loss_name, reduction))


def prepare_targets(
    splits: Splits,
    *,
    kind: Kind,
    one_hot: bool,
    output_shape: tuple[int, ...],
    loss_name: str,
    ignore_class: int | None = None,
    reduction: Reduction = SERIAL,
) -> Splits:
    """Return the splits with targets as the loss wants them.

    Args:
        splits: what `load` gave.
        kind: what the loss takes: "labels", integers (n, *output_shape[:-1]) from 0 to output_shape[-1] - 1 (booleans,
            and floats that are whole numbers, are given as int64), "values", floats (n, *output_shape), or "sequences",
            integers (n, length) for outputs (steps, classes): labels from 1 on, padded at the end by 0 or less; "any":
            none, so that they may be anything.
        one_hot: with "values": the targets are labels, to be turned into one-hot rows.
        output_shape: shape of the model's output for one sample.
        loss_name: as in the job file; decides hints, and whether values must be probabilities, or not negative.
        ignore_class: with "labels": one more label that there may be, of positions that do not count.
        reduction: shares out the checks among ranks; collective.

    Raises:
        DataError: shapes that do not fit, labels that are not whole or out of range, values out of their range,
            sequences too long for the steps.
        JobError: `one_hot` with a loss of labels.
    """

    def prepared(samples: Samples, part: str) -> Samples:
        return prepare_samples(
            samples,
            kind=kind,
            one_hot=one_hot,
            output_shape=output_shape,
            loss_name=loss_name,
            ignore_class=ignore_class,
            what=f"targets of the {part} data",
            reduction=reduction,
        )

    held = splits.validation
    return replace(
        splits,
        train=prepared(splits.train, "training"),
        validation=None if held is None else prepared(held, "validation"),
    )


def check_characters(vocabulary: str, classes: int) -> None:
    """Raise DataError if a model has fewer outputs than a text has characters."""
    if len(vocabulary) > classes:
        raise DataError(
            f"the text has {len(vocabulary)} different characters, but the model has {classes} outputs. Give its last "
            f"layer {len(vocabulary)} units."
        )


def absent_classes(y: Rows, classes: int, *, labels: bool, reduction: Reduction = SERIAL) -> list[int]:
    """Return the classes that no sample has.

    `y` holds prepared targets: with `labels`, integers; else rows of outputs, in which what is above 0 counts. The
    `classes` of one output are 0 and 1. Collective where `reduction` is.
    """
    if isinstance(y, OneHotRows):
        y, labels = y.labels, True
    chunks = Chunks(y, np.int64 if labels else np.float64)

    def leaf(i: int) -> NDArray[np.float64]:
        values = chunks[i]
        if labels:
            known = values[(values >= 0) & (values < classes)]  # others are ignored
            return (np.bincount(known, minlength=classes) > 0).astype(np.float64)
        if classes == 1:
            return np.array([(values <= 0.5).any(), (values > 0.5).any()], np.float64)
        return np.asarray((values.reshape(-1, classes) > 0).any(axis=0), np.float64)

    return [int(c) for c in np.flatnonzero(reduction.max(len(chunks), leaf) == 0)]


def one_class_each(y: Rows, reduction: Reduction = SERIAL) -> bool:
    """Return whether each row of prepared targets holds a single 1 and is 0 elsewhere. `reduction` as above."""
    chunks = Chunks(y, np.float64)

    def leaf(i: int) -> NDArray[np.float64]:
        ones = chunks[i] == 1
        single = (ones.sum(axis=-1) == 1).all() and (ones | (chunks[i] == 0)).all()
        return np.array([not single], np.float64)

    return not reduction.max(len(chunks), leaf)[0]


def class_counts(y: Rows, classes: int, reduction: Reduction = SERIAL) -> NDArray[np.int64]:
    """Return how many samples each class has, shape (classes,).

    `y` holds prepared targets: integer labels (n,), one-hot rows (n, ..., classes), or, with two classes, the zeros
    and ones (n, 1) of a binary loss.

    Raises:
        DataError: targets that are none of these.
    """
    row_shape = y.shape[1:]
    if row_shape == () or (row_shape == (1,) and classes == 2):
        labels = Chunks(y, np.int64)

        def leaf(i: int) -> NDArray[np.float64]:
            return np.bincount(labels[i].reshape(-1), minlength=classes)[:classes].astype(np.float64)

        return reduction.sum(len(labels), leaf).astype(np.int64)
    rows = math.prod(y.shape[:-1])
    if row_shape[-1] == classes:
        chunks = Chunks(y, np.float64)
        sums = reduction.sum(len(chunks), lambda i: chunks[i].reshape(-1, classes).sum(axis=0))
        if math.isclose(sums.sum(), rows, rel_tol=1e-6):
            return np.rint(sums).astype(np.int64)
    raise DataError(
        f"balanced class weights need integer labels, or rows of {classes} numbers that add up to 1; the targets have "
        f"shape {row_shape} a sample and are neither. Give class_weights as a list."
    )

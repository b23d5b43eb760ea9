"""Which samples are held out for validation: pure functions of the data, the settings and the seed."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hpcnn.core.formatting import counted
from hpcnn.data.checks import check_counts
from hpcnn.data.rows import Chunks, Rows
from hpcnn.data.sampler import SPLIT_STREAM, Indices, held_out_count, permutation
from hpcnn.data.source import Source
from hpcnn.data.tables.rows import fields_of
from hpcnn.errors import DataError, JobError
from hpcnn.job import data as schema

Mask = NDArray[np.bool_]
Shuffled = Callable[[int], Indices]
"""``n -> 0 to n - 1`` in random order."""


def split_of(
    source: Source, data: schema.DataSection, seed: int, arithmetic: str
) -> tuple[Indices | None, Indices | None]:
    """Return the samples to train on and those that are held out, each sorted; None for all, and for none.

    Raises:
        DataError: one of the two would be empty, or the data do not say what the kind of split needs.
    """
    n, fraction = source.x.shape[0], data.validation_fraction
    if source.held_out is not None:
        return _sides(source.held_out)
    if source.split or not (fraction or data.fold):
        return None, None
    fold = _fold_of(data.fold)
    if fold is None:
        held_out_count(n, fraction)  # refuses all, and none

    def shuffled(n: int) -> Indices:
        return permutation(n, arithmetic, seed, SPLIT_STREAM)

    match data.validation_split:
        case "random":
            held = _random(n, fraction, fold, shuffled)
        case "stratified":
            check_counts(source.x, source.y, "the training data")
            held = _stratified(_classes(source.y), fraction, fold, shuffled)
        case "group":
            held = _grouped(_groups(source), fraction, fold, shuffled)
        case "last":
            return _last(n, fraction, fold, data.validation_gap)
    return _sides(held)


def _fold_of(text: str) -> tuple[int, int] | None:
    """Return a fold, counted from 0, and the number of folds."""
    if not text:
        return None
    number, folds = map(int, text.split("/"))
    return number - 1, folds


def _sides(held: Mask) -> tuple[Indices, Indices]:
    if held.all() or not held.any():
        raise DataError(
            f"the split leaves {np.count_nonzero(held)} of {counted(len(held), 'sample')} for validation and "
            f"{np.count_nonzero(~held)} for training; each needs at least one. Choose another fraction or fold, or use "
            "more data."
        )
    return np.flatnonzero(~held), np.flatnonzero(held)


def _check_folds(folds: int, there: int, what: str) -> None:
    if folds > there:
        raise DataError(f"data.fold asks for {folds} folds, but there are {there} {what}: choose at most {there}.")


def _random(n: int, fraction: float, fold: tuple[int, int] | None, shuffled: Shuffled) -> Mask:
    held, order = np.zeros(n, np.bool_), shuffled(n)
    if fold is None:
        held[order[: held_out_count(n, fraction)]] = True
    else:
        number, folds = fold
        _check_folds(folds, n, "samples")
        held[order[n * number // folds : n * (number + 1) // folds]] = True
    return held


def _last(n: int, fraction: float, fold: tuple[int, int] | None, gap: int) -> tuple[Indices, Indices]:
    """Hold out consecutive samples: the last, or a fold of them; `gap` samples beside them are left out."""
    first, stop = n - held_out_count(n, fraction), n
    if fold is not None:
        number, folds = fold
        _check_folds(folds, n, "samples")
        first, stop = n * number // folds, n * (number + 1) // folds
    train = np.concatenate([np.arange(max(0, first - gap)), np.arange(min(n, stop + gap), n)])
    if not len(train):
        raise DataError(
            f"data.validation_gap = {gap} leaves no sample for training, of {n} of which {stop - first} are held out. "
            "Choose a smaller gap, or use more data."
        )
    return train.astype(np.int64), np.arange(first, stop, dtype=np.int64)


def _stratified(classes: Indices, fraction: float, fold: tuple[int, int] | None, shuffled: Shuffled) -> Mask:
    """Hold out the same share of each class; `classes` number them from 0."""
    n, counts = len(classes), np.bincount(classes)
    order = shuffled(n)
    order = order[np.argsort(classes[order], kind="stable")]  # class after class, each in random order
    held = np.zeros(n, np.bool_)
    if fold is not None:
        number, folds = fold
        _check_folds(folds, n, "samples")
        held[order[number::folds]] = True
        return held
    chosen, starts = shares(counts, fraction), np.cumsum(counts) - counts
    held[order[np.arange(n) - np.repeat(starts, counts) < np.repeat(chosen, counts)]] = True
    return held


def shares(counts: Indices, fraction: float) -> Indices:
    """Return how many of each class are held out, by the method of the largest remainder.

    One of each class is left to train on.

    >>> shares(np.array([50, 30, 21]), 0.1).tolist()
    [5, 3, 2]
    """
    total = held_out_count(int(counts.sum()), fraction)
    quotas, most = counts * fraction, np.maximum(counts - 1, 0)
    chosen: Indices = np.minimum(np.floor(quotas).astype(np.int64), most)
    order = np.argsort(np.floor(quotas) - quotas, kind="stable")
    chosen[order[chosen[order] < most[order]][: max(0, total - int(chosen.sum()))]] += 1
    return chosen


def _grouped(groups: Indices, fraction: float, fold: tuple[int, int] | None, shuffled: Shuffled) -> Mask:
    """Hold out whole groups, which are numbered from 0."""
    sizes = np.bincount(groups)
    order = shuffled(len(sizes))
    if len(sizes) < 2:
        raise DataError("all samples belong to one group, so that none can be held out. Choose another data.group.")
    if fold is None:
        held = _nearest(sizes, order, fraction)
    else:
        number, folds = fold
        _check_folds(folds, len(sizes), "groups")
        held = fold_of_groups(sizes, order, folds) == number
    chosen: Mask = held[groups]
    return chosen


def _nearest(sizes: Indices, order: Indices, fraction: float) -> Mask:
    """Return which groups are held out: in this order each that brings their samples nearer to the fraction."""
    target, held_samples = sizes.sum() * fraction, 0
    held = np.zeros(len(sizes), np.bool_)
    for group in order[:-1]:  # one is left to train on
        if abs(held_samples + sizes[group] - target) < abs(held_samples - target):
            held[group] = True
            held_samples += sizes[group]
    if not held.any():
        held[min(order, key=lambda group: sizes[group])] = True
    return held


def fold_of_groups(sizes: Indices, order: Indices, folds: int) -> Indices:
    """Return the fold of each group: from the largest on, each goes to the fold with the fewest samples."""
    fold, filled = np.empty(len(sizes), np.int64), np.zeros(folds, np.int64)
    for group in order[np.argsort(-sizes[order], kind="stable")]:
        fold[group] = filled.argmin()
        filled[fold[group]] += sizes[group]
    return fold


def _values(rows: Rows) -> NDArray[np.float64]:
    return np.concatenate([values.copy() for values in Chunks(rows, np.float64)])


def _classes(y: Rows) -> Indices:
    """Return the class of each sample, numbered from 0."""
    values = _values(y) if math.prod(y.shape[1:]) * y.shape[0] else np.zeros(0)
    if len(y.shape) == 2 and y.shape[1] > 1 and ((values == 0) | (values == 1)).all() and (values.sum(1) == 1).all():
        values = values.argmax(axis=1).astype(np.float64)
    if values.size != len(values) or (values != np.floor(values)).any():
        raise DataError(
            f'data.validation_split = "stratified" needs one class a sample, but the targets, of shape {y.shape[1:]} a '
            "sample, are none: give whole numbers, words or one-hot rows, or choose another kind of split."
        )
    return _numbered(values)


def _groups(source: Source) -> Indices:
    if source.groups is None:
        raise JobError(
            'data.validation_split = "group" needs to know which samples belong together: name a column or an array by '
            "data.group, or give hpcnn.fit groups=."
        )
    n, shape = source.x.shape[0], source.groups.shape
    if shape not in ((n,), (n, 1)):
        raise DataError(f"the groups have shape {shape}, but {n} samples need {(n,)}: one number or word each.")
    values = _values(source.groups)
    missing = np.flatnonzero(np.isnan(values))
    if len(missing):
        name = next((f" (column {field.name!r})" for field in fields_of(source.groups)), "")
        raise DataError(
            f"no group{name} for {counted(len(missing), 'sample')}, the first in row {missing[0]}, counted from 0. "
            "Give each one."
        )
    return _numbered(values)


def _numbered(values: NDArray[np.float64]) -> Indices:
    return np.asarray(np.unique(values.reshape(-1), return_inverse=True)[1], np.int64)

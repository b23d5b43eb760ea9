"""Samples, and the scaling of their inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcnn.data.reduction import Reduction, totals
from hpcnn.data.rows import Array, Chunks, ColumnRows, Rows, ScaledRows, SubsetRows
from hpcnn.data.sampler import Indices
from hpcnn.data.tables.recipe import Recipe
from hpcnn.errors import DataError


@dataclass(frozen=True, eq=False)
class Scaling:
    """``(x - shift) * scale``: float64 arrays of the shape of one sample, of its last axes, or () for one pair for all.

    With the last axes alone it is the same for all channels' places, or for all steps of a window.
    """

    shift: NDArray[np.float64]
    scale: NDArray[np.float64]

    def to_dict(self) -> dict[str, NDArray[np.float64]]:
        """Return the arrays by name, as stored in a checkpoint."""
        return {"shift": self.shift, "scale": self.scale}

    @classmethod
    def from_dict(cls, arrays: Mapping[str, NDArray[Any]]) -> Scaling:
        """Return the scaling of the arrays of `to_dict`."""
        return cls(np.asarray(arrays["shift"], np.float64), np.asarray(arrays["scale"], np.float64))

    def flat(self, entries: int) -> tuple[Array, Array]:
        """Return shift and scale for all entries of a sample, (entries,); of shape () where it is one pair for all."""
        repeats = 1 if not self.shift.shape else entries // self.shift.size
        shift, scale = (np.tile(part.reshape(-1), repeats) if part.shape else part for part in (self.shift, self.scale))
        return shift, scale

    def undone(self, values: Array) -> Array:
        """Return scaled samples (n, ...) as they were before, in float64."""
        shift, scale = self.flat(math.prod(values.shape[1:]))
        found: Array = values.reshape(len(values), -1).astype(np.float64) / scale + shift
        return found.reshape(values.shape)

    def apply(self, rows: Rows, of: str = "inputs") -> ScaledRows:
        """Return the scaled rows, computed when they are taken. DataError: their shape is not that of `shift`."""
        axes = len(self.shift.shape)
        if len(rows.shape) <= axes or self.shift.shape != rows.shape[len(rows.shape) - axes :]:
            raise DataError(
                f"the {of} have shape {rows.shape[1:]} per sample, but the run was trained, and its scaling "
                f"measured, with {of} of shape {self.shift.shape}. Give {of} of that shape."
            )
        return ScaledRows(rows, self.shift, self.scale)


def _moments(chunks: Chunks, over: str, reduction: Reduction, arithmetic: str) -> tuple[Array, Array]:
    """Return the mean and deviation of each column, or of all: two passes (Chan, Golub and LeVeque, 1983).

    Deviations from the first row are summed rather than the values, so that a constant column gives exactly its
    value and exactly 0.
    """
    total = totals(None if over == "all" else 0, arithmetic)
    shape = chunks.rows.shape
    n = math.prod({"feature": shape[:1], "channel": shape[:-1], "all": shape}[over])
    first = _columns(chunks[0], over)[0].copy()
    origin = first.reshape(-1)[0] if over == "all" else first
    mean = origin + reduction.sum(len(chunks), lambda i: total(_columns(chunks[i], over) - origin)) / n
    squares = reduction.sum(len(chunks), lambda i: total(np.square(_columns(chunks[i], over) - mean)))
    return np.asarray(mean), np.sqrt(squares / n)


def _columns(values: Array, over: str) -> Array:
    """Return samples as rows over which columns are measured: of channels, one for each place."""
    return values.reshape(-1, values.shape[-1]) if over == "channel" else values


def _range(chunks: Chunks, over: str, reduction: Reduction, arithmetic: str) -> tuple[Array, Array]:
    """Return the minimum and the width of the range of each column, or of all."""
    axis = None if over == "all" else 0

    def leaf(i: int) -> Array:
        values = _columns(chunks[i], over)
        return np.stack([-values.min(axis=axis), values.max(axis=axis)])

    negative_low, high = reduction.max(len(chunks), leaf)
    return np.asarray(-negative_low), np.asarray(high + negative_low)


def measure_scaling(
    rows: Rows, kind: str, over: str, reduction: Reduction, arithmetic: str = "numpy", of: str = "inputs"
) -> Scaling:
    """Return the scaling of `kind` ("standardize" or "minmax") for `rows`, `over` each "feature", "channel" or "all".

    Statistics are computed in float64, with the same bits on any number of ranks. Constant columns get scale 1.

    Raises:
        DataError: values so large that their statistics are not finite.
    """
    if over == "channel" and len(rows.shape) == 1:
        over = "feature"
    statistics = {"standardize": _moments, "minmax": _range}[kind]
    with np.errstate(over="ignore", invalid="ignore"):
        shift, width = statistics(Chunks(rows, np.float64), over, reduction, arithmetic)
    key = "data.scale" if of == "inputs" else "data.scale_targets"
    if not (np.isfinite(shift).all() and np.isfinite(width).all()):
        raise DataError(
            f'{key} = "{kind}": {of} of the training data are so large that their mean, deviation or range is '
            f'not finite in float64. Clean the data, or set {key} = "none".'
        )
    usable = width >= np.finfo(np.float64).tiny  # below it, 1 / width may overflow
    return Scaling(shift, np.asarray(1.0 / np.where(usable, width, 1.0)))


def scaling_of_some(measured: Scaling, scaled: Sequence[bool]) -> Scaling:
    """Return a scaling of the features that are `scaled`, measured over them, for rows of all features."""
    some = np.array(scaled)
    shift, scale = np.zeros(len(some)), np.ones(len(some))
    shift[some], scale[some] = measured.shift, measured.scale
    return Scaling(shift, scale)


def measure_some(
    rows: Rows, scaled: Sequence[bool], kind: str, over: str, reduction: Reduction, arithmetic: str
) -> Scaling | None:
    """Return the scaling of those features of rows (n, features) that are `scaled`; None if there are none.

    The others keep their values. See `measure_scaling`.
    """
    places = [place for place, one in enumerate(scaled) if one]
    if not places:
        return None
    if len(places) == len(scaled):
        return measure_scaling(rows, kind, over, reduction, arithmetic)
    return scaling_of_some(measure_scaling(ColumnRows(rows, places), kind, over, reduction, arithmetic), scaled)


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs `x` and targets `y`, one row of each per sample."""

    x: Rows
    y: Rows
    feature_names: tuple[str, ...] | None = None
    """Names of the columns of the inputs, where they have some."""
    notes: tuple[str, ...] = ()
    """Warnings for the user."""
    weights: Rows | None = None
    """How much each sample counts, shape (n,); None: all count the same."""

    def __len__(self) -> int:
        return self.x.shape[0]

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of the inputs of one sample."""
        return self.x.shape[1:]

    def subset(self, index: Indices) -> Samples:
        """Return the samples of these numbers, (k,)."""
        weights = None if self.weights is None else SubsetRows(self.weights, index)
        return replace(self, x=SubsetRows(self.x, index), y=SubsetRows(self.y, index), weights=weights)

    def take(self, indices: Indices, x_out: Array, y_out: Array) -> None:
        """Write the samples `indices`, shape (k,), into arrays whose first axis is k, cast to their types."""
        self.x.take(indices, x_out)
        self.y.take(indices, y_out)


@dataclass(frozen=True, eq=False)
class Splits:
    """The training data and the validation data of a job."""

    train: Samples
    validation: Samples | None
    scaling: Scaling | None
    """Of the inputs."""
    notes: tuple[str, ...] = ()
    """Warnings for the user."""
    recipe: Recipe | None = None
    """What became of the columns of a table."""
    train_index: Indices | None = None
    """For `data.order = "windows"`: the number of each training sample among the rows of the source."""
    target_scaling: Scaling | None = None

"""Windows over rows in the order of time: inputs are some consecutive rows, targets those that follow."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from hpcnn.data.rows import Array, Buffer, Rows, SubsetRows
from hpcnn.data.sampler import Indices
from hpcnn.data.samples import Samples
from hpcnn.data.source import Source
from hpcnn.errors import DataError, JobError
from hpcnn.job.data import DataSection
from hpcnn.job.window import Window

TRAINING, VALIDATION = "the training data", "the validation data"


class WindowRows:
    """`steps` consecutive rows as one; row i begins with row ``starts[i]``. Nothing is copied before it is taken."""

    def __init__(self, rows: Rows, starts: Indices, steps: int) -> None:
        self.rows, self.starts = rows, starts
        self.shape, self.dtype = (len(starts), steps, *rows.shape[1:]), rows.dtype
        self._offsets, self._places = np.arange(steps), Buffer((steps,), np.int64)

    def take(self, indices: Indices, out: Array) -> None:
        """Write rows into `out`; see `Rows.take`."""
        assert out.flags.c_contiguous, "a reshaped copy would swallow what is written"
        places = self._places.rows(len(indices))
        np.add(self.starts[indices][:, None], self._offsets, out=places)
        self.rows.take(places.reshape(-1), out.reshape(len(out) * self.shape[1], *self.rows.shape[1:]))


@dataclass(frozen=True, eq=False)
class Series:
    """Rows of one series after the other, each in the order of time."""

    rows: Indices
    """Their numbers in the source."""
    lengths: tuple[int, ...]

    def split(self, fraction: float) -> tuple[Series, Series]:
        """Return all but the end of each series, and the ends, which are `fraction` of it."""
        ends = np.cumsum((0, *self.lengths))
        held = [math.floor(length * fraction + 0.5) for length in self.lengths]
        kept = [length - end for length, end in zip(self.lengths, held, strict=True)]
        parts = [(self.rows[a : a + k], self.rows[a + k : b]) for a, k, b in zip(ends, kept, ends[1:], strict=False)]
        first, last = (np.concatenate(rows) for rows in zip(*parts, strict=True))
        return Series(first, tuple(kept)), Series(last, tuple(held))

    def starts(self, window: Window, span: int, what: str) -> Indices:
        """Return where windows begin, counted along `rows`, that reach over `span` of them and no two series.

        Raises:
            DataError: there are none.
        """
        begins = np.cumsum((0, *self.lengths))
        counts = [max(0, (length - span) // window.stride + 1) for length in self.lengths]
        if not sum(counts):
            longest = f"the longest of {len(counts)} series has" if len(counts) > 1 else "there are"
            targets = (
                f", a gap of {window.gap} and data.window.horizon = {window.horizon}" if span > window.steps else ""
            )
            raise DataError(
                f"{what}: a window of data.window.steps = {window.steps}{targets} takes {span} rows, but {longest} "
                f"{max(self.lengths)}. Shorten the windows, or give more rows."
            )
        parts = [begin + window.stride * np.arange(count) for begin, count in zip(begins, counts, strict=False)]
        return np.concatenate(parts).astype(np.int64)


def series_of(rows: int, groups: Rows | None) -> Series:
    """Return rows as series: those of each group, in their order, or all as one."""
    if groups is None:
        return Series(np.arange(rows, dtype=np.int64), (rows,))
    values = np.empty(groups.shape, np.float64)
    groups.take(np.arange(rows, dtype=np.int64), values)
    numbers = np.unique(values.reshape(-1), return_inverse=True)[1]
    return Series(np.argsort(numbers, kind="stable"), tuple(np.bincount(numbers).tolist()))


@dataclass(frozen=True, eq=False)
class WindowPlan:
    """The series to train on, and those for validation."""

    window: Window
    train: Series
    validation: Series | None
    held_out: bool
    """Whether those for validation are the ends of the others; else they are of a file of their own."""

    @property
    def kept(self) -> Indices | None:
        """The rows to train on, series after series; None for all in their order."""
        rows, held_out = self.train.rows, self.left_out is not None
        return rows if held_out or not np.array_equal(rows, np.arange(len(rows))) else None

    @property
    def starts(self) -> Indices:
        """Where the windows to train on begin, counted along `kept`."""
        return self.train.starts(self.window, self.window.span, TRAINING)

    @property
    def counts(self) -> tuple[int, int]:
        """How many windows there are to train on, and for validation."""
        held = self.validation
        return len(self.starts), 0 if held is None else len(held.starts(self.window, self.window.span, VALIDATION))

    @property
    def left_out(self) -> Indices | None:
        """The rows that are held out."""
        return self.validation.rows if self.validation is not None and self.held_out else None

    def windows(self, samples: Samples, *, validation: bool = False) -> Samples:
        """Return the windows of samples whose rows are those of one of the series. DataError: there are none."""
        series = self.validation if validation else self.train
        assert series is not None
        return windows_of(samples, series, self.window, VALIDATION if validation else TRAINING)


def window_plan(source: Source, data: DataSection) -> WindowPlan | None:
    """Return the series of the data of a job; None without `data.window`. JobError: there are several inputs."""
    if data.window is None:
        return None
    check_one_input(source)
    series = series_of(source.x.shape[0], source.groups)
    if source.validation is not None:
        held = series_of(source.validation[0].shape[0], source.validation_groups)
        return WindowPlan(data.window, series, held, held_out=False)
    if not data.validation_fraction:
        return WindowPlan(data.window, series, None, held_out=False)
    return WindowPlan(data.window, *series.split(data.validation_fraction), held_out=True)


def check_one_input(source: Source) -> None:
    """Raise JobError if there are several inputs: windows are of one array."""
    if source.inputs:
        raise JobError(
            f"data.window makes windows of one array, but the data have the inputs {', '.join(source.inputs)}. "
            'Give one, or stack them: data.stack = "channels".'
        )


def windows_of(samples: Samples, series: Series, window: Window, what: str) -> Samples:
    """Return windows of inputs, and the rows after them as targets. `samples` has the rows of the series in order."""
    starts = series.starts(window, window.span, what)
    x = WindowRows(samples.x, starts, window.steps)
    y = WindowRows(samples.y, starts + window.steps + window.gap, window.horizon)
    return replace(samples, x=x, y=y, feature_names=None)


def in_order(rows: Rows, series: Series) -> Rows:
    """Return the rows of a series in its order."""
    everything = np.array_equal(series.rows, np.arange(rows.shape[0]))
    return rows if everything else SubsetRows(rows, series.rows)


def windows_of_samples(
    samples: Samples, groups: Rows | None, window: Window, what: str, features: int | None
) -> Samples:
    """Return the windows of all rows of a file; see `windows_of`. Those of a file of windows are as they are.

    `features` is the number of entries of a sample of the model, if known.
    """
    if _are_windows(samples.x_shape, window, features):
        return samples
    series = series_of(len(samples), groups)
    samples = replace(samples, x=in_order(samples.x, series), y=in_order(samples.y, series))
    return windows_of(samples, series, window, what)


def windows_of_inputs(x: Rows, groups: Rows | None, window: Window, what: str, features: int | None) -> Rows:
    """Return all windows of inputs, also those whose targets lie beyond the last row; see `windows_of_samples`."""
    if _are_windows(x.shape[1:], window, features):
        return x
    series = series_of(x.shape[0], groups)
    return WindowRows(in_order(x, series), series.starts(window, window.steps, what), window.steps)


def _are_windows(row_shape: tuple[int, ...], window: Window, features: int | None) -> bool:
    """Return whether rows are windows already, by the number of entries that a model takes."""
    several = window.steps > 1 or len(row_shape) > 1
    return features == math.prod(row_shape) and row_shape[:1] == (window.steps,) and several

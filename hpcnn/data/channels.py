"""Named arrays of a grid as rows: several of them as channels, coordinates beside them, missing values filled."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpcnn.data.cf_attributes import marked_rows, with_nan
from hpcnn.data.joined import joined, names_of, parts_of
from hpcnn.data.rows import Array, ArrayRows, Buffer, ComputedRows, Rows
from hpcnn.data.sampler import Indices
from hpcnn.data.source import Source
from hpcnn.errors import DataError
from hpcnn.job.data import GridSection

MOST_AXES = 4
"""Most axes of a coordinate."""


@dataclass(frozen=True, eq=False)
class Variable:
    """A named array of a file, its first axis that of the samples."""

    rows: Rows
    find_axes: Callable[[], tuple[str, ...]] = tuple
    """Returns the names of its axes, where the file has some; empty where one has none."""

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of its axes. They are read when they are needed, since HDF5 may never end on damaged ones."""
        return self.find_axes()


ReadVariables = Callable[[Sequence[str]], Sequence[Variable]]
"""Returns the variables of these names from a file."""


class FilledRows(ComputedRows):
    """Rows with a number in place of NaN."""

    def __init__(self, rows: Rows, fill: float) -> None:
        super().__init__(rows.shape, rows.dtype)
        self.rows, self._number = rows, fill

    def _fill(self, rows: Indices, values: Array) -> None:
        self.rows.take(rows, values)
        np.copyto(values, self._number, where=np.isnan(values))


class ConstantRows(ComputedRows):
    """The same row over and over."""

    def __init__(self, samples: int, row: Array) -> None:
        super().__init__((samples, *row.shape), row.dtype)
        self._row = row

    def _fill(self, rows: Indices, values: Array) -> None:
        values[...] = self._row


class RepeatedRows(ComputedRows):
    """Rows of one number, which fills the row's whole shape."""

    def __init__(self, rows: Rows, shape: tuple[int, ...]) -> None:
        super().__init__((rows.shape[0], *shape), rows.dtype)
        self.rows, self._numbers = rows, Buffer((), rows.dtype)

    def _fill(self, rows: Indices, values: Array) -> None:
        numbers = self._numbers.rows(len(rows))
        self.rows.take(rows, numbers)
        values[...] = numbers.reshape(-1, *(1,) * (values.ndim - 1))


class ChannelRows(ComputedRows):
    """Rows of one shape stacked on a new last axis.

    With `fill` that number stands in place of NaN in the first `variables` of them; with `mask` one more channel is 1
    where any of these was NaN, else 0.
    """

    def __init__(self, parts: Sequence[Rows], variables: int, fill: float | None = None, *, mask: bool = False) -> None:
        shape, dtype = parts[0].shape, np.result_type(*(rows.dtype for rows in parts))
        super().__init__((*shape, len(parts) + mask), dtype)
        self.parts, self._variables, self._number, self._mask = tuple(parts), variables, fill, mask
        self._one = Buffer(shape[1:], dtype)

    def _fill(self, rows: Indices, values: Array) -> None:
        one = self._one.rows(len(rows))
        if self._mask:
            values[..., -1] = 0
        for place, part in enumerate(self.parts):
            part.take(rows, one)
            if self._number is not None and place < self._variables and one.dtype.kind == "f":
                missing = np.isnan(one)
                np.copyto(one, self._number, where=missing)
                if self._mask:
                    np.copyto(values[..., -1], 1, where=missing)
            values[..., place] = one


def grid_source(read: ReadVariables, data: GridSection, path: Path) -> Source:
    """Return the inputs and targets that `data` name. DataError: their shapes do not fit together."""
    names = [names_of(one) for one in (data.x, data.y, data.coordinates, data.weights, data.group)]
    given = iter(read([name for part in names for name in part]))
    own, targets, coordinates, weights, groups = ({name: next(given) for name in part} for part in names)
    inputs = _inputs(own, coordinates, data, path)
    if targets:
        plain = {name: variable.rows for name, variable in targets.items()}
    else:  # the inputs themselves, later
        plain = {name: _filled(variable.rows, data.fill) for name, variable in own.items()}
    what, stacked = f"targets in {path}", data.stack == "channels"
    several = len(own) > 1 and not stacked
    return Source(
        inputs,
        ChannelRows(_alike(plain, what), len(plain)) if stacked else joined(plain, what),
        inputs=parts_of({name: variable.rows for name, variable in own.items()}) if several else {},
        weights=weights[data.weights].rows if weights else None,
        groups=groups[data.group].rows if groups else None,
    )


def grid_inputs(read: ReadVariables, data: GridSection, path: Path) -> Rows:
    """Return the inputs that `data` name; see `grid_source`."""
    x = names_of(data.x)
    variables = read([*x, *data.coordinates])
    coordinates = dict(zip(data.coordinates, variables[len(x) :], strict=True))
    return _inputs(dict(zip(x, variables, strict=False)), coordinates, data, path)


def _inputs(variables: Mapping[str, Variable], extra: Mapping[str, Variable], data: GridSection, path: Path) -> Rows:
    what = f"inputs in {path}"
    if data.stack == "inputs":
        return joined({name: _filled(variable.rows, data.fill) for name, variable in variables.items()}, what)
    rows = (
        [one.rows for one in variables.values()]
        if data.fill is None
        else [with_nan(one.rows) for one in variables.values()]
    )
    parts = _alike(dict(zip(variables, rows, strict=True)), what)
    like = next(iter(variables.values()))
    parts += [_coordinate(one, like, f"the coordinate {name!r} in {path}") for name, one in extra.items()]
    return ChannelRows(parts, len(variables), data.fill, mask=data.mask_channel)


def _filled(rows: Rows, fill: float | None) -> Rows:
    if fill is None:
        return rows
    rows = with_nan(rows)
    return FilledRows(rows, fill) if rows.dtype.kind == "f" else rows


def _alike(arrays: Mapping[str, Rows], what: str) -> list[Rows]:
    """Return rows of one shape. DataError: they have several."""
    if len({rows.shape for rows in arrays.values()}) > 1:
        each = ", ".join(f"{name} {rows.shape}" for name, rows in arrays.items())
        raise DataError(
            f'the {what} have different shapes: {each}. With data.stack = "channels" all need one; bring them to one '
            "grid, or give a variable that does not change in time as one of data.coordinates."
        )
    return list(arrays.values())


def _coordinate(variable: Variable, like: Variable, what: str) -> Rows:
    """Return a coordinate as rows of the shape of a variable. DataError: it does not fit, or has missing values."""
    places = _places(variable, like, what)
    values = np.empty(variable.rows.shape, variable.rows.dtype if variable.rows.dtype.kind == "f" else np.float64)
    variable.rows.take(np.arange(len(values), dtype=np.int64), values)
    marked = any(one.marks(_stored(one)).any() for one in marked_rows(variable.rows))
    if marked or not np.isfinite(values).all():
        raise DataError(f"{what} has missing values, or such that are not finite. Fill them, or leave it out.")
    samples, *shape = like.rows.shape
    if places == (0,):
        return RepeatedRows(ArrayRows(values), tuple(shape))
    if places[0] == 0:
        raise DataError(f"{what} has the axis of the samples and others. Give it as one of data.x.")
    sizes = [values.shape[places.index(axis)] if axis in places else 1 for axis in range(1, len(shape) + 1)]
    return ConstantRows(samples, np.broadcast_to(values.reshape(sizes), shape))


def _stored(rows: Rows) -> Array:
    out = np.empty(rows.shape, rows.dtype)
    rows.take(np.arange(len(out), dtype=np.int64), out)
    return out


def _places(coordinate: Variable, like: Variable, what: str) -> tuple[int, ...]:
    """Return which axes of a variable a coordinate has: by their names, or by their lengths where that is clear."""
    lengths, sizes = like.rows.shape, coordinate.rows.shape
    named = like.axes if all(like.axes) else ()
    if named and coordinate.axes and set(coordinate.axes) <= set(named):
        places = tuple(named.index(axis) for axis in coordinate.axes)
        fits = [places] if sorted(places) == list(places) else []
    elif len(sizes) <= MOST_AXES and len(lengths) <= 2 * MOST_AXES:
        fits = list(itertools.combinations(range(len(lengths)), len(sizes)))
    else:
        fits = []
    fits = [places for places in fits if tuple(lengths[place] for place in places) == sizes]
    if len(fits) != 1:
        axes = f", axes {', '.join(like.axes)}," if all(like.axes) and like.axes else ""
        why = "its axes could be several of these" if fits else "its axes are none of these"
        raise DataError(
            f"{what} has shape {sizes}, but the inputs have {lengths}{axes} and {why}. Name the axes in the file "
            "(dimension scales of HDF5, dimension names of Zarr), or give another coordinate."
        )
    return fits[0]

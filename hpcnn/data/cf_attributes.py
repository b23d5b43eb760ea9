"""Packed values of netCDF: scale factor, offset, and markers of missing values.

The attributes are those of the CF conventions, https://cfconventions.org, sections 2.5.1 and 8.1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcnn.data.rows import Array, Buffer, ComputedRows, ReshapedRows, Rows
from hpcnn.data.sampler import Indices
from hpcnn.errors import DataError, shortened

ATTRIBUTES = (
    "scale_factor", "add_offset", "_FillValue", "missing_value", "valid_min", "valid_max", "valid_range", "_Unsigned",
)  # fmt: skip
"""The attributes that are applied. All others are ignored."""
FILL = "fillvalue"
"""The fill value that a data set was created with; not an attribute."""
MISSING = ("_FillValue", "missing_value", FILL)
BOUNDS = ("valid_min", "valid_max", "valid_range")


@dataclass(frozen=True)
class Marks:
    """Which of the stored values mark missing ones."""

    values: tuple[Any, ...]
    low: Any
    high: Any
    text: str
    """The attributes that say so."""
    names: tuple[str, ...]
    """Those of them that can be deleted."""

    @property
    def remedy(self) -> str:
        """What to do if the values are not missing; empty if nothing can be done."""
        if not self.names:
            return ""
        return f", or, if these are real values, delete the attribute{'s' * (len(self.names) > 1)} ({_del(self.names)})"

    def __call__(self, values: Array) -> NDArray[np.bool_]:
        """Return where a value is missing."""
        with np.errstate(invalid="ignore"):  # NaN is found by another check
            bad: NDArray[np.bool_] = np.zeros(values.shape, bool)
            for value in self.values:
                bad |= values == value
            if self.low is not None:
                bad |= values < self.low
            if self.high is not None:
                bad |= values > self.high
        return bad


class MarkedRows:
    """Rows in which some values mark missing ones. The checks of the data find them before they are used."""

    def __init__(self, rows: Rows, marks: Marks, what: str) -> None:
        self.rows, self.marks, self.what = rows, marks, what
        self.shape, self.dtype = rows.shape, rows.dtype

    def take(self, indices: Indices, out: Array) -> None:
        """Write rows into `out`; see `Rows.take`."""
        self.rows.take(indices, out)


class UnpackedRows(ComputedRows):
    """``row * factor + offset``, computed in float64 and then cast."""

    def __init__(self, rows: Rows, factor: float, offset: float) -> None:
        super().__init__(rows.shape)
        self.rows, self.factor, self.offset = rows, factor, offset

    def _fill(self, rows: Indices, values: Array) -> None:
        self.rows.take(rows, values)
        _unpack(values, self.factor, self.offset)


class NanRows(ComputedRows):
    """Rows of floats in which missing values are NaN."""

    def __init__(self, rows: MarkedRows, factor: float, offset: float) -> None:
        packed = factor != 1 or offset != 0
        super().__init__(rows.shape, rows.dtype if rows.dtype.kind == "f" and not packed else np.float64)
        self.rows, self._marks, self._factor, self._offset = rows, rows.marks, factor, offset
        self._stored = Buffer(rows.shape[1:], rows.dtype)

    def _fill(self, rows: Indices, values: Array) -> None:
        stored = self._stored.rows(len(rows))
        self.rows.take(rows, stored)
        np.copyto(values, stored)
        _unpack(values, self._factor, self._offset)
        values[self._marks(stored)] = np.nan


def _unpack(values: Array, factor: float, offset: float) -> None:
    with np.errstate(over="ignore", invalid="ignore"):  # the checks of the data find what is not finite
        np.multiply(values, factor, out=values)
        np.add(values, offset, out=values)


def with_nan(rows: Rows) -> Rows:
    """Return rows of `unpacked` with NaN where a value is missing."""
    if isinstance(rows, UnpackedRows):
        return NanRows(rows.rows, rows.factor, rows.offset) if isinstance(rows.rows, MarkedRows) else rows
    return NanRows(rows, 1.0, 0.0) if isinstance(rows, MarkedRows) else rows


def marked_rows(rows: Rows) -> list[MarkedRows]:
    """Return those of the stored rows that these are made of some of whose values may mark missing ones."""
    if isinstance(rows, MarkedRows):
        return [rows]
    if isinstance(rows, ReshapedRows | UnpackedRows):
        return marked_rows(rows.rows)
    return [found for part in getattr(rows, "parts", ()) for found in marked_rows(part)]


def unpacked(rows: Rows, attributes: Mapping[str, Any], what: str) -> Rows:
    """Return rows after applying those of `ATTRIBUTES` that are present. DataError: one can't be applied."""
    signed = attributes.get("_Unsigned")
    if signed is not None and rows.dtype.kind in "iu":
        unsigned = str(signed.decode() if isinstance(signed, bytes) else signed).lower() == "true"
        if unsigned != (rows.dtype.kind == "u"):
            raise _refused(what, "_Unsigned", signed, f"but its type is {rows.dtype.name}. Save it with the type meant")
    marks = _marks(rows.dtype, attributes, what)
    factor = _numbers(attributes, "scale_factor", what, 1) or [1.0]
    offset = _numbers(attributes, "add_offset", what, 1) or [0.0]
    for name, value in (("scale_factor", factor[0]), ("add_offset", offset[0])):
        if not math.isfinite(value):
            raise _refused(what, name, value, "which is not finite. Fix the file")
    if factor[0] == 0:
        raise _refused(what, "scale_factor", factor[0], "which makes all values alike. Fix the file")
    if marks is not None:
        rows = MarkedRows(rows, marks, what)
    neutral = float(factor[0]) == 1 and float(offset[0]) == 0
    return rows if neutral else UnpackedRows(rows, float(factor[0]), float(offset[0]))


def _marks(dtype: np.dtype[Any], attributes: Mapping[str, Any], what: str) -> Marks | None:
    for name in (*MISSING, *BOUNDS):
        _check_signs(dtype, attributes, name, what)
    values = {name: _castable(dtype, _numbers(attributes, name, what)) for name in MISSING}
    low, high = (_numbers(attributes, name, what, 1) for name in ("valid_min", "valid_max"))
    both = _numbers(attributes, "valid_range", what, 2)
    least, most = [*low, *both[:1]], [*high, *both[1:]]
    if dtype.kind in "iu":  # bounds that every value meets, such as 0 and 255 of bytes
        least = [bound for bound in least if bound > np.iinfo(dtype).min]
        most = [bound for bound in most if bound < np.iinfo(dtype).max]
    least, most = ([bound for bound in one if math.isfinite(bound)] for one in (least, most))
    if dtype.kind == "b" or not (any(values.values()) or least or most):
        return None
    named = [name for name in MISSING if values[name]]
    named += [name for name in BOUNDS if name in attributes and (least or most)]
    text = ", ".join(f"{name} = {shortened(attributes[name], 60)}" for name in named)
    fills = tuple(value for name in MISSING for value in values[name])
    kept = tuple(name for name in named if name != FILL)
    return Marks(fills, max(least, default=None), min(most, default=None), text, kept)


def _del(names: Sequence[str]) -> str:
    return "h5py: del " + ", ".join(f"d.attrs[{name!r}]" for name in names)


def _check_signs(dtype: np.dtype[Any], attributes: Mapping[str, Any], name: str, what: str) -> None:
    """Raise DataError for a negative number that may mean an unsigned one, as -1 means 255 in netCDF's _Unsigned."""
    numbers = _numbers(attributes, name, what)
    if dtype.kind == "u" and any(n.dtype.kind == "i" and n.itemsize == dtype.itemsize and n < 0 for n in numbers):
        meant = shortened(np.asarray(attributes[name]).astype(dtype).tolist(), 60)
        why = (
            f"which {dtype.name} can't hold. If it means {meant}, write that (h5py: d.attrs[{name!r}] = "
            f"numpy.array({meant}, {dtype.name!r})); if not, delete it ({_del([name])})"
        )
        raise _refused(what, name, attributes[name], why)


def _castable(dtype: np.dtype[Any], numbers: list[Any]) -> list[Any]:
    """Return the numbers that `dtype` can represent, converted to it: 1e20 has another value in float32."""
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            cast = [dtype.type(number) for number in numbers]
        return [number for number in cast if not np.isnan(number)]
    if dtype.kind not in "iu":
        return []
    bounds = np.iinfo(dtype)
    return [int(n) for n in numbers if math.isfinite(n) and int(n) == n and bounds.min <= int(n) <= bounds.max]


def _numbers(attributes: Mapping[str, Any], name: str, what: str, count: int = 0) -> list[Any]:
    """Return the numbers of an attribute, `count` of them unless that is 0; none if it is absent."""
    if name not in attributes:
        return []
    value = attributes[name]
    try:
        numbers = np.atleast_1d(np.asarray(value)).reshape(-1)
    except (TypeError, ValueError):
        numbers = np.empty(0, object)
    if numbers.dtype.kind not in "biuf" or (count and len(numbers) != count):
        needed = {0: "numbers", 1: "a single number", 2: "two numbers"}[count]
        raise _refused(what, name, value, f"but must be {needed}. Fix the attribute, or delete it")
    return list(numbers)


def _refused(what: str, name: str, value: Any, why: str) -> DataError:
    return DataError(f"{what} has the attribute {name} = {shortened(_plain(value), 60)}, {why}.")


def _plain(value: Any) -> str:
    """Return a value as Python writes it, without NumPy's names of types."""
    return repr(value.item() if isinstance(value, np.generic) else value)

"""Arrays that a Python program passes in, as a data source; their hash identifies them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike

from hpcnn.data.columns import Columns, named_columns
from hpcnn.data.digests import digests
from hpcnn.data.joined import joined, matched, parts_of
from hpcnn.data.readers.reader import Reader
from hpcnn.data.rows import Array, ArrayRows, Rows
from hpcnn.data.source import Source, check_axes, column_values
from hpcnn.data.tables.frames import array_column, column_names, frame_table, is_numeric
from hpcnn.data.tables.rows import Field, TableRows, table_rows
from hpcnn.errors import DataError, shortened
from hpcnn.job import data as schema

Arrays = ArrayLike | Mapping[str, ArrayLike]
"""An array; or arrays by the names of a model's inputs, or of its outputs."""
Pair = tuple[Arrays, Arrays]
"""Inputs and targets, one row of each per sample."""
Validation = Pair | tuple[Arrays, Arrays, ArrayLike]
"""The same, or with the weights of the samples."""


class MemoryReader(Reader[schema.Memory]):
    """Raises an error: arrays of a program can't be read again."""

    section = schema.Memory

    def read(self, data: schema.Memory, base: Path) -> NoReturn:
        """Raise DataError."""
        raise DataError(
            "the data of this job were arrays of a Python program and are not in a file. Pass them to hpcnn.fit, or to "
            "evaluate in Python, again; commands take files (--data of evaluate, INPUT of others)."
        )


@dataclass(frozen=True)
class Names:
    """The names of a model's inputs and outputs, where it has several: arrays in dicts are put in their order."""

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


NAMELESS = Names()


def array_source(
    data: Pair,
    validation: Validation | None = None,
    columns: Columns | None = None,
    names: Names = NAMELESS,
    *,
    sample_weight: ArrayLike | None = None,
    groups: ArrayLike | None = None,
) -> Source:
    """Return arrays, or array-likes, as a data source. Several inputs or outputs may be dicts of arrays by name.

    Tables with named columns, such as DataFrames, are reordered to a model's `columns`; those for validation to the
    columns of the training data. `groups` say which samples belong together, as numbers or words.

    Raises:
        DataError: they are not a pair of arrays of numbers, or have other columns.
    """
    source = _pair_source(data, "data", columns, names)
    if sample_weight is not None:
        source = replace(source, weights=_rows(sample_weight, "sample_weight"))
    if groups is not None:
        source = replace(source, groups=_target_rows(groups, "groups"))
    if validation is None:
        return source
    names = replace(names, inputs=names.inputs or tuple(source.inputs))
    held_weights = None
    if isinstance(validation, tuple | list) and len(validation) == 3:
        *pair, weights = validation
        validation, held_weights = (pair[0], pair[1]), _rows(weights, "the weights of validation")
    held = _pair_source(validation, "validation", columns or source.columns, names)
    return replace(source, validation=(held.x, held.y), validation_weights=held_weights)


def array_settings(source: Source) -> dict[str, Any]:
    """Return the `[data]` settings of such a source, including its hash."""
    held = source.validation
    return {
        "source": "memory",
        "x_shape": list(source.x.shape),
        "y_shape": list(source.y.shape),
        "validation_samples": held[0].shape[0] if held else 0,
        "sha256": digests([*source.arrays, *source.others])[-1] if source.others else source.digests[-1],
    }


def array_inputs(x: Any, what: str = "x", columns: Columns | None = None, inputs: tuple[str, ...] = ()) -> Rows:
    """Return inputs, those of a table in the order of a model's `columns`; shape (n,) becomes (n, 1).

    A dict of arrays by the names of `inputs` becomes rows of one after the other.

    Raises:
        DataError: they are not an array of numbers, or have other columns or names.
    """
    if isinstance(x, Mapping):
        return joined(_named_rows(x, inputs, what), what)
    names = column_names(x)
    if names is not None:
        return _frame_rows(x, range(len(names)) if columns is None else columns.places(names, what), what)
    rows = _rows(x, what)
    return ArrayRows(rows.array.reshape(-1, 1)) if len(rows.shape) == 1 else rows


def _frame_rows(frame: Any, places: Sequence[int], what: str) -> TableRows:
    """Return the columns of a table at `places`: of numbers alone, in the type that NumPy gives them together."""
    frame = _selected(frame, places)
    if is_numeric(frame):
        return TableRows(_rows(frame, what).array, [Field(name.strip()) for name in column_names(frame) or ()])
    return table_rows(frame_table(frame, what).columns)


def _target_rows(y: Any, what: str) -> ArrayRows:
    """Return targets; those of a table, or in words, as columns of one."""
    if column_names(y) is not None:
        return _frame_rows(y, range(y.shape[1]), what)
    array = y if hasattr(y, "to_numpy") or isinstance(y, np.ndarray) else None
    if array is None and not _are_words(y):
        return _rows(y, what)
    name = (_target_names(y) or ("target",))[0]
    dtype = getattr(y, "dtype", None)
    if isinstance(dtype, np.dtype) and dtype.kind in "biuf":
        rows = _rows(y, what)
        return TableRows(rows.array, [Field(name)]) if len(rows.shape) == 1 and hasattr(y, "to_numpy") else rows
    column = array_column(name, np.array(y, object) if array is None else array, what)
    return table_rows([column], flat=True)


def _are_words(y: Any) -> bool:
    return isinstance(y, list | tuple) and any(isinstance(one, str) for one in y)


def _target_names(y: Any) -> tuple[str, ...]:
    names = column_names(y)
    if names is None and isinstance(getattr(y, "name", None), str | int):  # a column of a table
        names = (str(y.name),)
    return names or ()


def _named_rows(given: Mapping[str, Any], names: tuple[str, ...], what: str) -> dict[str, Rows]:
    if not given:
        raise DataError(f"{what} is an empty dict: give arrays by name")
    return {name: _rows(one, f"{what}[{name!r}]") for name, one in matched(given, names, what).items()}


def _pair_source(pair: Any, what: str, columns: Columns | None, names: Names) -> Source:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise DataError(f"{what} is {type(pair).__name__}; expected a pair of arrays: {what}=(x, y)")
    x, y = pair
    inputs, target_names = array_inputs(x, f"x of {what}", columns, names.inputs), _target_names(y)
    if columns is not None and len(columns.targets) > 1 and column_names(y) is not None:
        y = _selected(y, Columns(columns.targets).places(target_names, f"y of {what}"))
    if columns is None:
        found = column_names(x)
        columns = named_columns(found, target_names) if found else None
    if isinstance(y, Mapping):
        targets = joined(_named_rows(y, names.outputs, f"y of {what}"), f"y of {what}")
    else:
        targets = _target_rows(y, f"y of {what}")
    parts = parts_of(_named_rows(x, names.inputs, what)) if isinstance(x, Mapping) else {}
    return Source(inputs, targets, columns=columns, inputs=parts)


def _selected(table: Any, places: Sequence[int]) -> Any:
    if hasattr(table, "iloc"):  # pandas, where names may be of any type, and repeat
        return table.iloc[:, list(places)]
    names = list(getattr(table, "column_names", table.columns))
    return table.select([names[place] for place in places])


def _rows(values: ArrayLike, what: str) -> ArrayRows:
    array = _array(values, what)
    check_axes(array.shape, what)
    return ArrayRows(array)


def _array(values: Any, what: str) -> Array:
    check_unmasked(values, what)
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(f"{what} can't be converted to an array: {error}. Give rows of equal length.") from None
    if array.dtype.hasobject and hasattr(values, "iloc") and array.ndim == 2:  # columns of several types
        columns = [_array(column, f"column {shortened(name)!r} of {what}") for name, column in values.items()]
        return column_values(columns, len(values))
    if array.dtype.hasobject or array.dtype.kind not in "biuf":
        raise DataError(f"{what} has dtype {array.dtype}; allowed are booleans, integers and real floats. Convert it.")
    return array


def check_unmasked(values: Any, what: str) -> None:
    """Raise DataError if values are masked: converting them to an array would expose the masked values."""
    masked = _masked(values)
    if masked:
        raise DataError(
            f"{what} is a masked array, and {masked} of its values are masked. Fill them with .filled(value), or drop "
            "their samples."
        )


def _masked(values: Any) -> int:
    ma = sys.modules.get("numpy.ma")  # without it there are no such arrays; importing it is slow
    if ma is None:
        return 0
    if isinstance(values, list | tuple):
        return sum(map(_masked, values))
    return int(ma.count_masked(values)) if isinstance(values, ma.MaskedArray) else 0

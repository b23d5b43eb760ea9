"""Reader of Parquet tables of numbers (extra `parquet`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpcnn.data.rows import Array, ArrayRows
from hpcnn.data.source import (
    Source,
    check_memory,
    check_numeric,
    column_values,
    optional_import,
    resolve,
    unread,
)
from hpcnn.errors import DataError, shortened, unknown_name
from hpcnn.job import data as schema

ENTRY_BYTES = 8
"""Of a number in memory, at most."""


def _read_table(path: Path) -> Any:
    parquet = optional_import("pyarrow.parquet", "parquet", "reading Parquet files")
    arrow = optional_import("pyarrow", "parquet", "reading Parquet files")
    try:
        metadata = parquet.read_metadata(path)
        known = metadata.schema.to_arrow_schema().names
        twice = sorted({name for name in known if known.count(name) > 1})
        if not twice:
            needed = metadata.num_rows * metadata.num_columns * ENTRY_BYTES  # a few bytes may say "a million zeros"
            check_memory(needed, path, "Give a part of it.")
            return parquet.read_table(path, use_threads=False)  # each core is a rank's already
    except DataError:
        raise
    except (OSError, ValueError, arrow.ArrowException) as error:
        raise unread(path, f"no valid Parquet file ({error})") from None
    raise DataError(f"{path} has several columns of one name: {shortened(', '.join(twice))}. Rename them.")


def _column(table: Any, name: str, path: Path) -> Array:
    column, what = table.column(name), f"column {name!r} of {path}"
    if column.null_count:
        raise DataError(f"{what} lacks {column.null_count} of its {len(column)} values. Fill or drop them.")
    values: Array = column.to_numpy()
    if values.dtype.hasobject:
        raise DataError(f"{what} has type {column.type}; allowed are booleans, integers and floats.")
    check_numeric(values.dtype, what)
    return values


def _split(path: Path, targets: Sequence[str], *, optional: bool = False) -> tuple[Array, Array | None, list[str]]:
    """Return inputs, targets, and the names of the inputs. With `optional`, the table may lack targets."""
    table = _read_table(path)
    known: list[str] = table.column_names
    for target in targets:
        if target not in known and not optional:
            unknown_name(f"column in {path}", target, known, DataError)
    names = [name for name in known if name not in targets]
    if not names:
        raise DataError(f"{path} has {len(known)} columns and all are targets: no input is left.")
    x = column_values([_column(table, name, path) for name in names], len(table))
    if optional:
        return x, None, names
    y = column_values([_column(table, name, path) for name in targets], len(table))
    return x, y[:, 0] if len(targets) == 1 else y, names


def _rows(path: Path, targets: Sequence[str]) -> tuple[ArrayRows, ArrayRows, tuple[str, ...]]:
    x, y, names = _split(path, targets)
    assert y is not None
    return ArrayRows(x), ArrayRows(y), tuple(names)


def read(data: schema.Parquet, base: Path) -> Source:
    """Read `[data] source = "parquet"`."""
    path = resolve(data.path, base)
    x, y, names = _rows(path, data.targets)
    if not data.validation_path:
        return Source(x, y, feature_names=names)
    held_path = resolve(data.validation_path, base)
    held_x, held_y, held_names = _rows(held_path, data.targets)
    if held_names != names:
        raise DataError(
            f"the inputs of {held_path} ({shortened(', '.join(held_names))}) are not those of {path} "
            f"({shortened(', '.join(names))}). "
            "Give both files the same columns in the same order."
        )
    return Source(x, y, (held_x, held_y), names)


def read_inputs(path: Path, targets: Sequence[str]) -> ArrayRows:
    """Return the inputs for prediction: all columns but the targets, which the file may have or not have."""
    return ArrayRows(_split(path, targets, optional=True)[0])

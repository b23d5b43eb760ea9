"""Reader of Parquet tables of numbers (extra `parquet`)."""

from __future__ import annotations

import json
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

from hpcnn.data.columns import PANDAS_INDEX, Columns, named_columns, stripped
from hpcnn.data.readers.reader import TableReader
from hpcnn.data.rows import Array, ArrayRows
from hpcnn.data.source import (
    NAME_TARGETS,
    Inputs,
    Source,
    check_memory,
    check_numeric,
    column_values,
    optional_import,
    unread,
)
from hpcnn.errors import DataError, shortened, unknown_name
from hpcnn.job import data as schema

ENTRY_BYTES = 8
"""Largest size of a number in memory."""


def _read_table(path: Path) -> Any:
    """Return the table of a file, with the names of its columns stripped."""
    parquet = optional_import("pyarrow.parquet", "parquet", "reading Parquet files")
    arrow = optional_import("pyarrow", "parquet", "reading Parquet files")
    try:
        metadata = parquet.read_metadata(path)
        known = stripped(metadata.schema.to_arrow_schema().names)
        twice = sorted({name for name in known if known.count(name) > 1})
        if not twice:
            needed = metadata.num_rows * metadata.num_columns * ENTRY_BYTES  # a few bytes may encode a million zeros
            check_memory(needed, path, "Use a part of it.")
            table = parquet.read_table(path, use_threads=False)  # the cores are used by the ranks
            renamed = table.rename_columns([*stripped(table.column_names)])
            return renamed.replace_schema_metadata(table.schema.metadata)
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


def _index(table: Any) -> set[str]:
    """Return the columns that hold an index of pandas, which it does not treat as columns either."""
    try:
        told = json.loads((table.schema.metadata or {}).get(b"pandas", b"{}"))["index_columns"]
    except (ValueError, KeyError, TypeError, RecursionError):
        told = []
    named = {name.strip() for name in told if isinstance(name, str)} if isinstance(told, list) else set()
    return {name for name in table.column_names if name in named or PANDAS_INDEX.fullmatch(name)}


def _values(table: Any, names: Sequence[str], path: Path) -> Array:
    return column_values([_column(table, name, path) for name in names], len(table))


def _inputs(known: Sequence[str], others: Container[str], path: Path) -> list[str]:
    names = [name for name in known if name not in others]
    if not names:
        raise DataError(f"{path} has {len(known)} columns and all are targets: no input is left.")
    return names


class ParquetReader(TableReader[schema.Parquet]):
    """Reads Parquet tables."""

    section, endings = schema.Parquet, (".parquet",)

    def load(self, path: Path, data: schema.Parquet) -> Source:
        """Read the inputs and targets of a file."""
        table, targets = _read_table(path), stripped(data.targets)
        known: list[str] = table.column_names
        for target in targets:
            if target not in known:
                unknown_name(f"column in {path}", target, known, DataError, NAME_TARGETS)
        index = _index(table).difference(targets)
        names = _inputs(known, {*index, *targets}, path)
        y = _values(table, targets, path)
        notes = f"{path}: left out the index of pandas, {shortened(', '.join(sorted(index)))}." if index else ""
        return Source(
            ArrayRows(_values(table, names, path)),
            ArrayRows(y[:, 0] if len(targets) == 1 else y),
            columns=named_columns(names, targets),
            notes=(notes,) if notes else (),
        )

    def settings_for(self, path: str, columns: Columns | None) -> schema.Parquet:
        """Return settings for a file of inputs."""
        return schema.Parquet(path=path, targets=[])

    def has_names(self, data: schema.Parquet) -> bool:
        """Return True: the columns of a table always have names."""
        return True

    def read_inputs(self, path: Path, data: schema.Parquet, columns: Columns | None, features: int | None) -> Inputs:
        """Read inputs in the order of the model's `columns` if it has names; see `Reader.read_inputs`.

        Else read all columns but those of targets and of an index of pandas, which the file may have or not have.
        """
        table = _read_table(path)
        known: list[str] = table.column_names
        if columns is None:
            names = _inputs(known, {*_index(table), *stripped(data.targets)}, path)
        else:
            index = _index(table).difference(columns.inputs)
            given = [name for name in known if name not in index]
            names = [given[place] for place in columns.places(given, str(path))]
        return Inputs(ArrayRows(_values(table, names, path)), tuple(names))

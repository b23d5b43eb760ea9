"""Reader of Parquet tables (extra `parquet`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpcnn.data.columns import PANDAS_INDEX, Columns, stripped
from hpcnn.data.readers.reader import TableReader
from hpcnn.data.source import check_memory, optional_import, unread
from hpcnn.data.tables.frames import array_column
from hpcnn.data.tables.table import Column, Table
from hpcnn.errors import DataError, shortened
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


def _column(table: Any, name: str, path: Path) -> Column:
    column = table.column(name)
    try:
        return array_column(name, column.to_pandas() if column.null_count else column.to_numpy(), f"{path}")
    except DataError:
        raise
    except (ValueError, TypeError) as error:
        raise unread(path, f"column {name!r} of type {column.type}: {error}") from None


def _index(table: Any) -> set[str]:
    """Return the columns that hold an index of pandas, which it does not treat as columns either."""
    try:
        told = json.loads((table.schema.metadata or {}).get(b"pandas", b"{}"))["index_columns"]
    except (ValueError, KeyError, TypeError, RecursionError):
        told = []
    named = {name.strip() for name in told if isinstance(name, str)} if isinstance(told, list) else set()
    return {name for name in table.column_names if name in named or PANDAS_INDEX.fullmatch(name)}


class ParquetReader(TableReader[schema.Parquet]):
    """Reads Parquet tables."""

    section, endings = schema.Parquet, (".parquet",)

    def table(self, path: Path, data: schema.Parquet, wanted: Sequence[str] = ()) -> Table:
        """Return the columns of a file without an index of pandas, unless it is `wanted`."""
        table = _read_table(path)
        index = _index(table).difference(wanted)
        notes = f"{path}: left out the index of pandas, {shortened(', '.join(sorted(index)))}." if index else ""
        columns = tuple(_column(table, name, path) for name in table.column_names if name not in index)
        return Table(str(path), columns, notes=(notes,) if notes else ())

    def settings_for(self, path: str, columns: Columns | None) -> schema.Parquet:
        """Return settings for a file of inputs."""
        return schema.Parquet(path=path, targets=[])

    def has_names(self, data: schema.Parquet) -> bool:
        """Return True: the columns of a table always have names."""
        return True

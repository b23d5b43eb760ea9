"""Tables in the files of Arrow: Parquet and Feather."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from hpcnn.data.columns import PANDAS_INDEX, stripped
from hpcnn.data.source import check_memory, optional_import, unread
from hpcnn.data.tables.opened import File, content_of
from hpcnn.data.tables.parts import Part, constant_columns
from hpcnn.data.tables.table import Column, Table
from hpcnn.data.tables.text import coded_column
from hpcnn.errors import DataError, shortened

Format = Literal["Parquet", "Feather"]
_ENTRY_BYTES = 8
"""Largest size of a number in memory."""
_PART = "Use a part of it."
_EXACT = 2**53
"""Up to here float64 holds all integers."""


def read_arrow(parts: Sequence[Part], form: Format, wanted: Sequence[str], path: str) -> Table:
    """Return the columns of files, one below the other, without an index of pandas unless it is `wanted`.

    `path` names them together. Columns of types that are neither numbers, words nor dates have a fault.

    Raises:
        DataError: a file is damaged, or has other columns than the first one.
    """
    tables = [_read(part.file, form) for part in parts]
    names = tables[0].column_names
    for part, table in zip(parts, tables, strict=True):
        if {*table.column_names} != {*names}:
            raise DataError(
                f"the columns of {part.file} ({shortened(', '.join(table.column_names))}) are not those of "
                f"{parts[0].file} ({shortened(', '.join(names))}). All parts of a table need the same."
            )
    index = _index(tables[0]).difference(wanted)
    columns = [_column(name, _joined(name, tables, path), path) for name in names if name not in index]
    columns += constant_columns([part.values for part in parts], [table.num_rows for table in tables])
    note = f"{path}: left out the index of pandas, {shortened(', '.join(sorted(index)))}." if index else ""
    return Table(path, tuple(columns), notes=(note,) if note else ())


def _read(file: File, form: Format) -> Any:
    """Return the table of a file, with the names of its columns stripped."""
    arrow = optional_import("pyarrow", "parquet", f"reading {form} files")
    content = arrow.BufferReader(content_of(file))
    try:
        table = _READ[form](content, file)
        known = stripped(table.column_names)
    except DataError:
        raise
    except (OSError, ValueError, arrow.ArrowException) as error:
        raise unread(file, f"no valid {form} file ({error})") from None
    twice = sorted(name for name, times in Counter(known).items() if times > 1)
    if twice:
        raise DataError(f"{file} has several columns of one name: {shortened(', '.join(twice))}. Rename them.")
    if not table.num_rows:
        raise DataError(f"{file} holds no row of data.")
    return table.rename_columns([*known]).replace_schema_metadata(table.schema.metadata)


def _read_parquet(content: Any, file: File) -> Any:
    from pyarrow import parquet

    opened = parquet.ParquetFile(content)
    needed = opened.metadata.num_rows * opened.metadata.num_columns * _ENTRY_BYTES
    check_memory(needed, file, _PART)  # a few bytes may encode a million zeros
    return opened.read(use_threads=False)  # the cores are used by the ranks


def _read_feather(content: Any, file: File) -> Any:
    from pyarrow import Table, feather, ipc

    if content.read(4) == b"FEA1":  # the first version
        content.seek(0)
        return feather.read_table(content, use_threads=False)
    content.seek(0)
    batches, size = [], 0
    with ipc.open_file(content, options=ipc.IpcReadOptions(use_threads=False)) as opened:
        for place in range(opened.num_record_batches):
            batches.append(opened.get_batch(place))
            size += batches[-1].nbytes
            check_memory(size, file, _PART)
        return Table.from_batches(batches, opened.schema)


_READ: dict[Format, Callable[[Any, File], Any]] = {"Parquet": _read_parquet, "Feather": _read_feather}


def _index(table: Any) -> set[str]:
    """Return the columns that hold an index of pandas, which it does not treat as columns either."""
    try:
        told = json.loads((table.schema.metadata or {}).get(b"pandas", b"{}"))["index_columns"]
    except (ValueError, KeyError, TypeError, RecursionError):
        told = []
    named = {name.strip() for name in told if isinstance(name, str)} if isinstance(told, list) else set()
    return {name for name in table.column_names if name in named or PANDAS_INDEX.fullmatch(name)}


def _joined(name: str, tables: Sequence[Any], path: str) -> Any:
    """Return the values of all parts, of a type that holds those of each."""
    import pyarrow as arrow

    if len(tables) == 1:
        return tables[0].column(name)
    parts = [table.select([name]).replace_schema_metadata() for table in tables]
    try:
        return arrow.concat_tables(parts, promote_options="permissive").column(0)
    except arrow.ArrowException:
        types = dict.fromkeys(str(part.schema.types[0]) for part in parts)
        raise DataError(
            f"{path}: column {shortened(name)!r} has other types in other parts: {shortened(', '.join(types))}. "
            "Write all parts alike."
        ) from None


def _column(name: str, values: Any, path: str) -> Column:
    import pyarrow as arrow

    kind, types = values.type, arrow.types
    try:
        if types.is_dictionary(kind):
            values, kind = values.cast(kind.value_type), kind.value_type
        if types.is_boolean(kind):
            known = _floats(values.cast(arrow.int8())) if values.null_count else values.to_numpy()
            return Column(name, "boolean", known)
        if types.is_date(kind) or types.is_timestamp(kind):
            moments = values.cast(arrow.timestamp("us", getattr(kind, "tz", None)), safe=False)
            return Column(name, "date", _floats(moments.cast(arrow.int64())) / 1e6)
        if types.is_string(kind) or types.is_large_string(kind):
            coded = values.dictionary_encode().combine_chunks()
            distinct = [*coded.dictionary.to_pylist(), ""]  # the last one is missing
            codes = coded.indices.fill_null(len(distinct) - 1).to_numpy().astype(np.int64)
            return coded_column(name, distinct, codes, as_words=True)
        if types.is_null(kind):
            return Column(name, "number", np.full(len(values), np.nan))
        if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
            return _numbers(name, values)
    except (ValueError, arrow.ArrowException) as error:
        raise unread(f"column {shortened(name)!r} of {path}", error) from None
    fault = (
        f"column {shortened(name)!r} has type {kind}; allowed are booleans, integers, floats, decimals, words and "
        "dates. Convert it, or leave it out by data.exclude."
    )
    return Column(name, "number", np.full(len(values), np.nan), fault=fault)


def _numbers(name: str, values: Any) -> Column:
    import pyarrow as arrow
    from pyarrow import compute

    fault, kind = "", values.type
    if arrow.types.is_integer(kind) and kind.bit_width == 64 and len(values) > values.null_count:
        low, high = (int(value.as_py()) for value in compute.min_max(values).values())
        if max(-low, high) > _EXACT:
            fault = (
                f"column {shortened(name)!r} holds integers beyond 2**53, as {high if high > _EXACT else low}, which "
                "floats can't tell apart. Leave it out by data.exclude, or convert it to words."
            )
    whole = _floats(values) if arrow.types.is_decimal(kind) or values.null_count else values.to_numpy()
    return Column(name, "number", whole, fault=fault)


def _floats(values: Any) -> Any:
    """Return values as float64, NaN where there are none."""
    import pyarrow as arrow

    return values.cast(arrow.float64(), safe=False).to_numpy()

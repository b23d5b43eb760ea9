"""Tables in the files of Arrow: Parquet and Feather."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from hpcnn.data.columns import PANDAS_INDEX, stripped
from hpcnn.data.source import check_memory, optional_import, unread
from hpcnn.data.tables.opened import File, content_of
from hpcnn.data.tables.parts import Part
from hpcnn.data.tables.table import Column, Table
from hpcnn.data.tables.text import coded_column
from hpcnn.errors import DataError, shortened

Format = Literal["Parquet", "Feather"]
_ENTRY_BYTES = 8
"""Largest size of a number in memory."""
_EXACT = 2**53
"""Up to here float64 holds all integers."""


def read_arrow(parts: Sequence[Part], form: Format, wanted: Sequence[str], path: str) -> Table:
    """Return the columns of files, one below the other, without an index of pandas unless it is `wanted`.

    `path` names them together.

    Raises:
        DataError: a file is damaged, has columns of types that are neither numbers, words nor dates, or others than the
            first file.
    """
    arrow = optional_import("pyarrow", "parquet", f"reading {form} files")
    tables = [_read(part.file, form) for part in parts]
    names = tables[0].column_names
    for part, table in zip(parts, tables, strict=True):
        if {*table.column_names} != {*names}:
            raise DataError(
                f"the columns of {part.file} ({shortened(', '.join(table.column_names))}) are not those of "
                f"{parts[0].file} ({shortened(', '.join(names))}). All parts of a table need the same."
            )
    index = _index(tables[0]).difference(wanted)
    kept = [name for name in names if name not in index]
    columns = []
    for name in kept:
        chunks = [chunk for table in tables for chunk in table.column(name).chunks]
        columns.append(_column(name, chunks, tables[0].schema.field(name).type, path))
    note = f"{path}: left out the index of pandas, {shortened(', '.join(sorted(index)))}." if index else ""
    codes = np.repeat(np.arange(len(tables)), [table.num_rows for table in tables])
    columns += [coded_column(name, [part.values[name] for part in parts], codes) for name in parts[0].values]
    del arrow
    return Table(path, tuple(columns), notes=(note,) if note else ())


def _read(file: File, form: Format) -> Any:
    """Return the table of a file, with the names of its columns stripped."""
    arrow = optional_import("pyarrow", "parquet", f"reading {form} files")
    reader = optional_import(f"pyarrow.{form.lower()}", "parquet", f"reading {form} files")
    try:
        source = arrow.BufferReader(content_of(file))
        if form == "Parquet":
            metadata = reader.read_metadata(source)
            needed = metadata.num_rows * metadata.num_columns * _ENTRY_BYTES  # a few bytes may encode a million zeros
            known = stripped(metadata.schema.to_arrow_schema().names)
            check_memory(needed, file, "Use a part of it.")
            source.seek(0)
        table = reader.read_table(source, use_threads=False)  # the cores are used by the ranks
        known = stripped(table.column_names)
    except DataError:
        raise
    except (OSError, ValueError, arrow.ArrowException) as error:
        raise unread(file, f"no valid {form} file ({error})") from None
    twice = sorted({name for name in known if known.count(name) > 1})
    if twice:
        raise DataError(f"{file} has several columns of one name: {shortened(', '.join(twice))}. Rename them.")
    if not table.num_rows:
        raise DataError(f"{file} holds no row of data.")
    return table.rename_columns([*known]).replace_schema_metadata(table.schema.metadata)


def _index(table: Any) -> set[str]:
    """Return the columns that hold an index of pandas, which it does not treat as columns either."""
    try:
        told = json.loads((table.schema.metadata or {}).get(b"pandas", b"{}"))["index_columns"]
    except (ValueError, KeyError, TypeError, RecursionError):
        told = []
    named = {name.strip() for name in told if isinstance(name, str)} if isinstance(told, list) else set()
    return {name for name in table.column_names if name in named or PANDAS_INDEX.fullmatch(name)}


def _column(name: str, chunks: list[Any], kind: Any, path: str) -> Column:
    """Return the chunks of a column, one after the other."""
    import pyarrow as arrow

    what, types = f"column {shortened(name)!r} of {path}", arrow.types
    try:
        whole = arrow.chunked_array([chunk.cast(kind) for chunk in chunks], kind)
        if types.is_dictionary(kind):
            whole, kind = whole.cast(kind.value_type), kind.value_type
        if types.is_boolean(kind):
            return Column(name, "boolean", _floats(whole) if whole.null_count else whole.to_numpy())
        if types.is_date(kind) or types.is_timestamp(kind):
            moments = whole.cast(arrow.timestamp("us", "UTC" if getattr(kind, "tz", None) else None), safe=False)
            seconds = _floats(moments.cast(arrow.int64()))
            return Column(name, "date", seconds / 1e6)
        if types.is_string(kind) or types.is_large_string(kind):
            coded = whole.dictionary_encode(null_encoding="mask").combine_chunks()
            coded = coded.chunk(0) if isinstance(coded, arrow.ChunkedArray) else coded
            distinct = [*coded.dictionary.to_pylist(), ""]
            codes = coded.indices.fill_null(len(distinct) - 1).to_numpy().astype(np.int64)
            return coded_column(name, distinct, codes, as_words=True)
        if types.is_null(kind):
            return Column(name, "number", np.full(len(whole), np.nan))
        if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
            return Column(name, "number", _numbers(whole, kind, what))
    except (ValueError, arrow.ArrowException) as error:
        raise unread(what, error) from None
    raise DataError(
        f"{what} has type {kind}; allowed are booleans, integers, floats, decimals, words and dates. Convert it, or "
        "leave it out by data.exclude."
    )


def _numbers(whole: Any, kind: Any, what: str) -> Any:
    import pyarrow as arrow

    if arrow.types.is_integer(kind) and kind.bit_width == 64 and len(whole) > whole.null_count:
        low, high = (int(value.as_py()) for value in arrow.compute.min_max(whole).values())
        if max(-low, high) > _EXACT:
            raise DataError(
                f"{what} holds integers beyond 2**53, as {high if high > _EXACT else low}, which floats can't tell "
                "apart. Leave it out by data.exclude, or convert it to words."
            )
    if arrow.types.is_decimal(kind) or whole.null_count:
        return _floats(whole)
    return whole.to_numpy()


def _floats(whole: Any) -> Any:
    """Return values as float64, NaN where there are none."""
    import pyarrow as arrow

    values = whole.cast(arrow.float64(), safe=False) if not arrow.types.is_boolean(whole.type) else whole.cast(arrow.int8())
    return np.array(values.cast(arrow.float64()).to_numpy(), np.float64)

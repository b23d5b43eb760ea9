"""Tables in the files of Arrow: Parquet and Feather."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from hpcnn.data.columns import PANDAS_INDEX, stripped
from hpcnn.data.source import check_memory, optional_import, unread
from hpcnn.data.tables.feather_sizes import unpacked_bytes
from hpcnn.data.tables.float_block import FloatBlock
from hpcnn.data.tables.opened import File, content_of, is_plain
from hpcnn.data.tables.parts import Part, constant_columns
from hpcnn.data.tables.table import Column, Table, check_names
from hpcnn.data.tables.text import EXACT, coded_column, inexact_integer
from hpcnn.errors import DataError, shortened

Format = Literal["Parquet", "Feather"]
_ENTRY_BYTES = 8
"""Largest size of a number in memory."""
_PART = "Use a part of it."


def read_arrow(parts: Sequence[Part], form: Format, wanted: Sequence[str], path: str) -> Table:
    """Return the columns of files, one below the other, without an index of pandas unless it is `wanted`.

    `path` names them together. Columns of types that are neither numbers, words nor dates have a fault.

    Raises:
        DataError: a file is damaged, or has other columns than the first one.
    """
    single = len(parts) == 1
    read = [_read(part.file, form, wanted, single=single) for part in parts]
    tables, names, block = [one.table for one in read], read[0].names, read[0].block
    for part, one in zip(parts, read, strict=True):
        if {*one.names} != {*names}:
            raise DataError(
                f"the columns of {part.file} ({shortened(', '.join(one.names))}) are not those of "
                f"{parts[0].file} ({shortened(', '.join(names))}). All parts of a table need the same."
            )
    index = _index(names, tables[0].schema.metadata).difference(wanted)
    floats = block.columns() if block is not None else {}
    columns = [floats.get(name) or _column(name, _joined(name, tables, path), path) for name in names
               if name not in index]  # fmt: skip
    columns += constant_columns([part.values for part in parts], [one.rows for one in read])
    note = f"{path}: left out the index of pandas, {shortened(', '.join(sorted(index)))}." if index else ""
    return Table(path, tuple(columns), notes=(note,) if note else ())


@dataclass(frozen=True)
class _Read:
    """What was read of a file."""

    names: tuple[str, ...]
    """Those of all columns, stripped."""
    table: Any
    """By Arrow, those that are not in the block."""
    rows: int
    block: FloatBlock | None = None


def _read(file: File, form: Format, apart: Sequence[str], *, single: bool) -> _Read:
    """Return the columns of a file; floats as a block but those `apart`, where it is the `single` one of a table."""
    arrow = optional_import("pyarrow", "parquet", f"reading {form} files")
    content = arrow.OSFile(str(file)) if is_plain(file) else arrow.BufferReader(content_of(file))
    block = None
    try:
        if form == "Feather":
            table = _read_feather(content, file)
            known = stripped(table.column_names)
        else:
            known, table, block = _read_parquet(content, file, apart if single else None)
    except DataError:
        raise
    except (OSError, ValueError, arrow.ArrowException) as error:
        raise unread(file, f"no valid {form} file ({error})") from None
    check_names(str(file), known)
    rows = len(block) if block is not None else table.num_rows
    if not rows:
        raise DataError(f"{file} holds no row of data.")
    metadata, own = table.schema.metadata, [*stripped(table.column_names)]
    return _Read(known, table.rename_columns(own).replace_schema_metadata(metadata), rows, block)


def _read_parquet(
    content: Any, file: File, apart: Sequence[str] | None
) -> tuple[tuple[str, ...], Any, FloatBlock | None]:
    """Return the names of all columns, those that are not in the block, and the block, of which None makes none."""
    from pyarrow import concat_tables, parquet

    opened = parquet.ParquetFile(content)
    needed = opened.metadata.num_rows * opened.metadata.num_columns * _ENTRY_BYTES
    check_memory(needed, file, _PART)  # a few bytes may encode a million zeros
    names, groups = stripped(opened.schema_arrow.names), range(opened.num_row_groups)
    if apart is None or not groups or len({*names}) < len(names):
        return names, opened.read(use_threads=False), None  # the cores are used by the ranks
    block = FloatBlock(opened.schema_arrow, opened.metadata.num_rows, apart, file)
    rest = [block.read(opened, group) for group in groups]
    return names, concat_tables(rest), block


def _read_feather(content: Any, file: File) -> Any:
    from pyarrow import feather, ipc

    data = content.read_buffer()
    content.seek(0)
    if data[:4].to_pybytes() == b"FEA1":  # the first version, which is not packed
        return feather.read_table(content, use_threads=False)
    check_memory(unpacked_bytes(memoryview(data)), file, _PART)
    with ipc.open_file(content, options=ipc.IpcReadOptions(use_threads=False)) as opened:
        return opened.read_all()


def _index(names: Sequence[str], metadata: Mapping[bytes, bytes] | None) -> set[str]:
    """Return the columns that hold an index of pandas, which it does not treat as columns either."""
    try:
        told = json.loads((metadata or {}).get(b"pandas", b"{}"))["index_columns"]
    except (ValueError, KeyError, TypeError, RecursionError):
        told = []
    named = {name.strip() for name in told if isinstance(name, str)} if isinstance(told, list) else set()
    return {name for name in names if name in named or PANDAS_INDEX.fullmatch(name)}


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
        if max(-low, high) > EXACT:
            fault = inexact_integer(name, high if high > EXACT else low)
    whole = _floats(values) if arrow.types.is_decimal(kind) or values.null_count else values.to_numpy()
    return Column(name, "number", whole, fault=fault)


def _floats(values: Any) -> Any:
    """Return values as float64, NaN where there are none."""
    import pyarrow as arrow

    return values.cast(arrow.float64(), safe=False).to_numpy()

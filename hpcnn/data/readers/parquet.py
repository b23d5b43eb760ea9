"""Readers of Parquet and Feather tables (extra `parquet`)."""

from __future__ import annotations

from collections.abc import Sequence

from hpcnn.data.readers.reader import TableReader
from hpcnn.data.tables.arrow_table import read_arrow
from hpcnn.data.tables.parts import Part
from hpcnn.data.tables.table import Table
from hpcnn.job import data as schema


class ParquetReader(TableReader[schema.Parquet]):
    """Reads Parquet tables."""

    section, endings = schema.Parquet, (".parquet",)

    def files(self, parts: Sequence[Part], data: schema.Parquet, wanted: Sequence[str], path: str) -> Table:
        """Return the columns of files, one below the other."""
        return read_arrow(parts, "Parquet", wanted, path)


class FeatherReader(TableReader[schema.Feather]):
    """Reads Feather tables, Arrow's own format."""

    section, endings = schema.Feather, (".feather", ".arrow")

    def files(self, parts: Sequence[Part], data: schema.Feather, wanted: Sequence[str], path: str) -> Table:
        """Return the columns of files, one below the other."""
        return read_arrow(parts, "Feather", wanted, path)

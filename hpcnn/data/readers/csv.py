"""Reader of tables in text files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hpcnn.data.columns import Columns, stripped
from hpcnn.data.readers.reader import TableReader
from hpcnn.data.tables.csv_table import only_numbers, read_csv
from hpcnn.data.tables.dialect import open_text
from hpcnn.data.tables.parts import Part, find_table, parts_of
from hpcnn.data.tables.table import Table
from hpcnn.errors import DataError
from hpcnn.job import data as schema


class CsvReader(TableReader[schema.Csv]):
    """Reads tables in text files."""

    section, endings = schema.Csv, (".csv", ".tsv", ".csv.gz", ".csv.zst", ".csv.bz2", ".csv.xz", ".tsv.gz")

    def files(self, parts: Sequence[Part], data: schema.Csv, wanted: Sequence[str], path: str) -> Table:
        """Return the columns of files, one below the other."""
        return read_csv(parts, data, wanted, path)

    def settings_for(self, path: str, columns: Columns | None) -> schema.Csv:
        """Return settings for a file that the job does not describe: a first line with a word in it is a header.

        Raises:
            DataError: the first line holds numbers, and the model's `columns` are named so.
        """
        settings = schema.Csv(path=path, targets=[])
        try:
            part = parts_of(find_table(path, Path()), self.endings)[0]
            _, first = next(open_text(part.file, settings).lines(), (0, []))
        except DataError:
            first = []  # reading it has the better message
        if columns and set(columns.inputs) <= {*stripped(first)} and only_numbers(first):
            raise DataError(
                f"{path}: the first line may be a row of numbers or the names of the columns, which the training data "
                "had numbers for. Give the inputs as a .npy file."
            )
        return schema.Csv(path=path, targets=[], header=not only_numbers(first))

    def has_names(self, data: schema.Csv) -> bool:
        """Return whether the first line names the columns."""
        return data.header

"""What the readers of files with named arrays share: HDF5 and Zarr."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import msgspec

from hpcnn.data.channels import Variable, grid_inputs, grid_source
from hpcnn.data.chunks import stored
from hpcnn.data.columns import Columns
from hpcnn.data.readers.reader import FileReader
from hpcnn.data.source import Inputs, Source
from hpcnn.data.tables.select import like
from hpcnn.job import data as schema

GridSettings = TypeVar("GridSettings", bound=schema.GridSection)


class GridReader(FileReader[GridSettings]):
    """Reads a format with named arrays."""

    @abstractmethod
    def variables(self, path: Any, names: Sequence[str]) -> list[Variable]:
        """Return the arrays `names` of a file, in that order. DataError: one is missing or damaged."""

    def load(self, path: Any, data: GridSettings) -> Source:
        """Read the inputs and targets of a file."""
        source = grid_source(partial(self.variables, path), data, path)
        rows = [one for array in (*source.arrays, *source.others) for one in stored(array)]
        notes = [note for one in rows for note in getattr(one, "notes", ())]
        return replace(source, notes=tuple(dict.fromkeys(notes)))

    def read_inputs(self, path: Any, data: GridSettings, columns: Columns | None, features: int | None) -> Inputs:
        """Read the inputs of a file; see `Reader.read_inputs`."""
        series = self.variables(path, [data.group])[0].rows if data.window and data.group else None
        return Inputs(grid_inputs(partial(self.variables, path), data, path), groups=series)

    def sample_settings(self, path: str, data: schema.DataSection, columns: Columns | None) -> Any:
        """Return settings with the names of arrays that the job has, for another file; else the defaults."""
        settings = msgspec.structs.replace(like(self.settings_for(path, columns), data), window=data.window)
        return super().sample_settings(path, settings, columns)

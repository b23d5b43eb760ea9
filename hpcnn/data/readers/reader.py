"""What a reader of a data format offers: reading the data of a job, and other files for evaluation and prediction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from hpcnn.data.columns import Columns
from hpcnn.data.source import Inputs, Source, resolve
from hpcnn.data.tables.opened import File
from hpcnn.data.tables.parts import Part, find_table, parts_of
from hpcnn.data.tables.select import like, single_columns, table_inputs, table_source
from hpcnn.data.tables.table import Table
from hpcnn.errors import DataError, shortened
from hpcnn.job import data as schema

Settings = TypeVar("Settings", bound=schema.DataSection)
FileSettings = TypeVar("FileSettings", bound=schema.FileSection)
TableSettings = TypeVar("TableSettings", bound=schema.TableSection)


class Reader(ABC, Generic[Settings]):
    """Reads one format."""

    section: ClassVar[type[schema.DataSection]]
    """The class of its settings."""
    endings: ClassVar[tuple[str, ...]] = ()
    """What the names of its files with inputs end in; empty for a source that is not a file."""
    any_ending: ClassVar[bool] = False
    """Whether it reads files of any name, of a job whose own data it reads."""
    folders: ClassVar[bool] = False
    """Whether it reads the inputs of all files in a folder, of a job whose own data it reads."""
    holds_targets: ClassVar[bool] = False
    """Whether one file holds inputs and targets."""

    @abstractmethod
    def read(self, data: Settings, base: Path) -> Source:
        """Read the data of a job; `base` is the folder that relative paths start at."""

    def settings_for(self, path: str, columns: Columns | None) -> Settings:
        """Return settings for a file of inputs that the job does not describe."""
        raise NotImplementedError

    def find(self, path: str, base: Path) -> Any:
        """Return the file `path`, absolute, below `base` or in the working folder. DataError: there is none."""
        return resolve(path, base)

    def read_inputs(self, path: Any, data: Settings, columns: Columns | None, features: int | None) -> Inputs:
        """Read inputs for prediction.

        `data` are the job's settings where its data are of this format, else those of `settings_for`; `columns` those
        of the training data, where they have names; `features` is the number of features of a sample, where known.
        """
        raise NotImplementedError

    def pair_settings(self, path: str, data: schema.DataSection, base: Path) -> Settings | None:
        """Return settings for `path` if it names separate files of inputs and targets, else None."""
        return None

    def sample_settings(self, path: str, data: schema.DataSection, columns: Columns | None) -> Settings:
        """Return settings for a file with inputs and targets; `data` is the section of the job."""
        raise NotImplementedError

    def has_names(self, data: Settings) -> bool:
        """Return whether the columns have names."""
        return False


class FileReader(Reader[FileSettings]):
    """Reads a format in which one file holds inputs and targets."""

    holds_targets = True

    @abstractmethod
    def load(self, path: Any, data: FileSettings) -> Source:
        """Read the inputs and targets of one file."""

    def read(self, data: FileSettings, base: Path) -> Source:
        """Read the file, and the one for validation if there is one.

        Raises:
            DataError: a file is missing or damaged, or the two have different columns.
        """
        path = self.find(data.path, base)
        source = self.load(path, data)
        if isinstance(data, schema.ArraySection) and data.validation_x:
            held_path, held = path, self.load(path, _of_validation(data))
        elif data.validation_path:
            held_path = self.find(data.validation_path, base)
            held = self.load(held_path, data)
        else:
            return source
        if held.columns != source.columns:
            raise DataError(
                f"the columns of {held_path} ({_listed(held)}) are not those of {path} ({_listed(source)}). "
                "Give both files the same columns."
            )
        notes = tuple(dict.fromkeys([*source.notes, *held.notes]))
        return replace(
            source,
            validation=(held.x, held.y),
            validation_weights=held.weights,
            validation_groups=held.groups,
            notes=notes,
        )

    def settings_for(self, path: str, columns: Columns | None) -> FileSettings:
        """Return settings with the default names of arrays."""
        return self.section(path=path)  # type: ignore[return-value, call-arg]

    def sample_settings(self, path: str, data: schema.DataSection, columns: Columns | None) -> FileSettings:
        """Return the settings of the job where its data are of this format, else the defaults, for another file."""
        settings = data if isinstance(data, self.section) else self.settings_for(path, columns)
        return _for_file(settings, path)  # type: ignore[no-any-return]


class TableReader(FileReader[TableSettings]):
    """Reads a format with columns, some of which are targets."""

    folders = True

    @abstractmethod
    def files(self, parts: Sequence[Part], data: TableSettings, wanted: Sequence[str], path: str) -> Table:
        """Return all columns of files, one below the other; `path` names them together.

        `wanted` are names that are to be among the columns, where it is not clear.
        """

    def find(self, path: str, base: Path) -> File:
        """Return the file, folder, pattern or address `path`; see `find_table`."""
        return find_table(path, base)

    def table(self, place: File, data: TableSettings, wanted: Sequence[str] = ()) -> Table:
        """Return all columns of a file, or of the parts of a folder or a pattern; see `files`."""
        return self.files(parts_of(place, self.endings), data, wanted, str(place))

    def settings_for(self, path: str, columns: Columns | None) -> TableSettings:
        """Return settings without targets."""
        return self.section(path=path, targets=[])  # type: ignore[return-value, call-arg]

    def has_names(self, data: TableSettings) -> bool:
        """Return True: columns have names, unless the format says otherwise."""
        return True

    def load(self, path: File, data: TableSettings) -> Source:
        """Read the inputs and targets of a file, and the weights and groups of its samples."""
        return table_source(self.table(path, data, _named(data.targets)), data)

    def read_inputs(self, path: File, data: TableSettings, columns: Columns | None, features: int | None) -> Inputs:
        """Read inputs in the order of the model's `columns`, if it and the file have names; see `table_inputs`."""
        wanted = columns.inputs if columns else _named(data.targets)
        return table_inputs(self.table(path, data, wanted), data, columns, features)

    def sample_settings(self, path: str, data: Any, columns: Columns | None) -> TableSettings:
        """Return settings with the targets that the model knows by name, else with those of the job.

        Raises:
            DataError: nothing says which columns are targets.
        """
        own = isinstance(data, self.section)
        settings: Any = data if own else like(self.section(path=path, targets=[]), data)  # type: ignore[call-arg]
        if self.has_names(settings) and columns is not None and columns.targets:
            settings = msgspec.structs.replace(settings, targets=list(columns.targets))
        elif not own:
            source, tag = (kind.__struct_config__.tag for kind in (type(data), self.section))
            raise DataError(
                f"{path!r} has named columns, but the job's data.source is {source!r}, not {tag!r}: "
                "nothing says which columns are targets. Give a .npz file in its place."
            )
        single = single_columns(settings)
        if data.window is not None:  # the series are to be told apart
            del single["group"]
        others = [*settings.exclude, *filter(None, single.values())]  # a file for evaluation may lack them
        settings = msgspec.structs.replace(settings, exclude=others, **dict.fromkeys(single, ""), validation_values=[])
        return _for_file(settings, path)  # type: ignore[no-any-return]


VALIDATION_ARRAYS = ("validation_x", "validation_y", "validation_weights")


def _of_validation(data: Any) -> Any:
    """Return settings of arrays whose inputs and targets are those for validation, in the same file."""
    x, y, weights = data.validation_x, data.validation_y, data.validation_weights
    return msgspec.structs.replace(data, x=x, y=y, weights=weights, group="")


def _named(targets: Sequence[str | int]) -> list[str]:
    return [target for target in targets if isinstance(target, str)]


def _for_file(data: Any, path: str) -> Any:
    """Return settings of all samples of another file, none of which is held out or has a weight."""
    if isinstance(data, schema.ArraySection):
        group = data.group if data.window else ""  # of series
        data = msgspec.structs.replace(data, weights="", group=group, **dict.fromkeys(VALIDATION_ARRAYS, ""))
    return msgspec.structs.replace(data, path=path, validation_path="", validation_fraction=0.0, fold="")


def _listed(source: Source) -> str:
    columns = source.columns
    return shortened(", ".join([*columns.inputs, *columns.targets])) if columns else f"{source.x.shape[1:]}"

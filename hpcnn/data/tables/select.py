"""Which columns of a table are inputs, targets, weights and groups, by name, by pattern or by position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import msgspec
import numpy as np
from numpy.typing import NDArray

from hpcnn.data.columns import Columns, counted, listed, named_columns, stripped
from hpcnn.data.rows import ArrayRows, Rows
from hpcnn.data.source import Inputs, Source
from hpcnn.data.tables.rows import TableRows, conformed, table_rows
from hpcnn.data.tables.table import Table
from hpcnn.errors import DataError, JobError, nearest, unknown_name
from hpcnn.job import data as schema
from hpcnn.job.data import TableSection

Places = list[int]
_OWN = {"path", "validation_path", "targets", *(field.name for field in msgspec.structs.fields(schema.DataSection))}
"""Settings of a file, not of its columns."""


def is_pattern(name: str) -> bool:
    """Return whether a name stands for all columns that match it."""
    return "*" in name or "?" in name


def table_source(table: Table, data: TableSection) -> Source:
    """Return the inputs and targets of a table, and the weights and groups if there are some.

    Inputs are in the order in which `data.inputs` lists them by name, else sorted by name, where columns have names.

    Raises:
        JobError: a setting names columns that have no names, or one column for two things.
        DataError: a column is missing, ambiguous, or there is no input.
    """
    names = stripped(table.names)
    targets = target_places(table, data.targets)
    single = {key: _single(table, key, name) for key, name in single_columns(data).items()}
    taken = {*targets, *(place for place in single.values() if place is not None)}
    excluded = {place for place, name in enumerate(names) if _matches(name, stripped(data.exclude))}
    # The past of a target is an input of windows, like any other column.
    ahead = set(targets) if data.window is not None and data.window.gap >= 0 else set()
    groups, inputs = _inputs(table, data, taken - ahead, excluded - taken)
    wrong = sorted(taken & excluded)
    if wrong:
        raise JobError(f"data.exclude leaves out {names[wrong[0]]!r}, which the job needs. Name it in one place alone.")
    columns = named_columns([names[i] for i in inputs], [names[i] for i in targets]) if table.named else None
    rows = {key: None if place is None else table_rows(table.pick([place]).columns, flat=True)
            for key, place in single.items()}  # fmt: skip
    return Source(
        table_rows(table.pick(inputs).columns),
        table_rows(table.pick(targets).columns, flat=True),
        columns=columns,
        notes=(*table.notes, *_absent(table, data)),
        inputs=groups,
        file_places=tuple(inputs),
        weights=rows["weights"],
        groups=rows["group"],
        held_out=_held_out(rows["validation_column"], data, table),
    )


def single_columns(data: TableSection) -> dict[str, str]:
    """Return the columns that are neither inputs nor targets, by the settings that name them."""
    return {key: getattr(data, key) for key in ("weights", "group", "validation_column")}


def _held_out(rows: TableRows | None, data: TableSection, table: Table) -> NDArray[np.bool_] | None:
    """Return which rows are for validation.

    Raises:
        DataError: one has no value, or none has one of those that say so.
    """
    if rows is None:
        return None
    name = data.validation_column
    rows = conformed(rows, ["words"], str(table.path))
    missing = np.flatnonzero(np.isnan(rows.array))
    if len(missing):
        raise DataError(
            f"{table.path}: column {name!r} (data.validation_column) has no value in {len(missing)} rows, the first of "
            f"which is row {missing[0]}, counted from 0. Give each one."
        )
    words = rows.fields[0].words
    wanted = {str(value).lower() if isinstance(value, bool) else str(value) for value in data.validation_values}
    unknown = sorted(wanted - set(words))
    if unknown:
        raise DataError(
            f"data.validation_values has {unknown[0]!r}, but column {name!r} of {table.path} holds {listed(words)}. "
            "Correct it."
        )
    return np.isin(rows.array, [place for place, word in enumerate(words) if word in wanted])


def table_inputs(table: Table, data: TableSection, columns: Columns | None, features: int | None) -> Inputs:
    """Return the inputs of a table for prediction, and, for windows, the series that each row is of; see `_given`."""
    inputs = _given(table, data, columns, features)
    series = _single(table, "group", data.group) if data.window is not None else None
    return inputs if series is None else replace(inputs, groups=table_rows(table.pick([series]).columns, flat=True))


def _given(table: Table, data: TableSection, columns: Columns | None, features: int | None) -> Inputs:
    """Return the inputs of a table for prediction, in the order of the model's `columns` if both have names.

    Else all columns but the targets, which may be there or not. Targets given by position are taken to be there,
    unless the table has exactly `features` columns.

    Raises:
        DataError: an input is missing, or a column is unknown to the model.
    """
    names = stripped(table.names)
    if columns is not None and table.named:
        others = [*data.exclude, *filter(None, single_columns(data).values())]
        given = [
            place for place, name in enumerate(names)
            if name in columns.inputs or not (data.inputs or _matches(name, stripped(others)))
        ]  # fmt: skip
        places = columns.places([names[place] for place in given], table.path)
        return Inputs(table_rows(table.pick([given[place] for place in places]).columns), columns.inputs)
    present: list[str | int] = list(data.targets)
    if table.named and all(isinstance(target, str) for target in present):
        present = [target for target in present if isinstance(target, str) and target.strip() in names]
    elif len(names) == features:
        present = []
    targets = {*target_places(table, present)}
    kept = [place for place in range(len(names)) if place not in targets]
    if not kept:
        raise _no_input(table)
    found = [names[place] for place in kept]
    return Inputs(table_rows(table.pick(kept).columns), tuple(found) if table.named and not counted(found) else None)


def like(settings: schema.DataSection, data: schema.DataSection) -> schema.DataSection:
    """Return settings with what the `data` of a job say of columns, but the targets, of arrays, or of pictures."""
    common: set[str] = set()
    for kind in (schema.TableSection, schema.GridSection):
        if isinstance(settings, kind) and isinstance(data, kind):
            common = {field.name for field in msgspec.structs.fields(kind)} - _OWN
    if isinstance(settings, schema.PictureSection) and isinstance(data, schema.PictureSection):
        common = {"size", "resize", "channels"}
    return msgspec.structs.replace(settings, **{name: getattr(data, name) for name in common})


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(name == pattern or (is_pattern(pattern) and _fits(name, pattern)) for pattern in patterns)


def _fits(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern.replace("[", "[[]"))  # brackets stand for themselves


def target_places(table: Table, targets: Sequence[str | int], key: str = "targets") -> Places:
    """Return the positions from 0 of the target columns, or of those that another `key` names.

    Raises:
        JobError: a target is a name, but the columns have none.
        DataError: a column is missing, ambiguous, or given twice.
    """
    places: Places = []
    for target in targets:
        places += _named(table, key, target) if isinstance(target, str) else [_position(table, target)]
    if len(set(places)) < len(places):
        raise DataError(f"data.{key} = {list(targets)} names one column of {table.path} twice.")
    return places


def _position(table: Table, place: int) -> int:
    width = len(table.columns)
    if not -width <= place < width:
        raise DataError(f"data.targets: no column {place} in {table.path}. Allowed are {-width} to {width - 1}.")
    return place % width


def _named(table: Table, key: str, name: str) -> Places:
    """Return the columns of a name or a pattern, those of a pattern sorted by name."""
    names, name = stripped(table.names), name.strip()
    if not table.named:
        raise JobError(
            f"data.{key} names column {name!r}, but with data.header = false columns have no names. "
            "Give data.targets as positions from 0 (-1 is the last), and leave other names out."
        )
    if name not in names and is_pattern(name):
        found = [place for place, one in enumerate(names) if _fits(one, name)]
        if not found:
            raise DataError(f"data.{key} = {name!r} matches no column of {table.path}. It has {listed(names)}.")
        return sorted(found, key=lambda place: names[place])
    if name not in names:
        unknown_name(f"column in {table.path}", name, names, DataError, f"Correct data.{key}.")
    if names.count(name) > 1:
        raise DataError(f"{table.path}: {name!r} names several columns. Give data.{key} by position, or rename them.")
    return [names.index(name)]


def _single(table: Table, key: str, name: str) -> int | None:
    return _named(table, key, name)[0] if name else None


def _inputs(
    table: Table, data: TableSection, taken: set[int], excluded: set[int]
) -> tuple[dict[str, tuple[int, ...]], Places]:
    """Return the number of columns of each of several inputs, and the columns in order."""
    if isinstance(data.inputs, dict):
        parts = {name: _listed(table, given, taken, excluded) for name, given in data.inputs.items()}
        groups: dict[str, tuple[int, ...]] = {name: (len(places),) for name, places in parts.items()}
        inputs = [place for places in parts.values() for place in places]
    else:
        groups, inputs = {}, _listed(table, data.inputs, taken, excluded)
    if len(set(inputs)) < len(inputs):
        twice = next(place for place in inputs if inputs.count(place) > 1)
        raise JobError(f"data.inputs names column {table.names[twice]!r} twice. Name it once.")
    if not inputs or not all(groups.values()):
        raise _no_input(table)
    return groups, inputs


def _listed(table: Table, given: Sequence[str], taken: set[int], excluded: set[int]) -> Places:
    names = stripped(table.names)
    if not given:
        places = [place for place in range(len(names)) if place not in taken | excluded]
        return _sorted(table, places)
    for name in given:
        wrong = [place for place in _named(table, "inputs", name) if place in taken | excluded]
        if wrong and not is_pattern(name):
            raise JobError(
                f"data.inputs names column {name!r}, which is a target, weight or group, or left out by data.exclude. "
                "Name it in one place alone."
            )
    places = [place for name in given for place in _named(table, "inputs", name) if place not in taken | excluded]
    return _sorted(table, [*dict.fromkeys(places)]) if any(map(is_pattern, given)) else places


def _sorted(table: Table, places: Sequence[int]) -> Places:
    """Return columns sorted by name, unless the names merely number them."""
    names = stripped(table.names)
    return sorted(places) if counted(names) else sorted(places, key=lambda place: (names[place], place))


def _no_input(table: Table) -> DataError:
    return DataError(f"{table.path}: all columns are targets, or are left out: no input is left.")


def _absent(table: Table, data: TableSection) -> list[str]:
    """Return warnings for names in `data.exclude` that are no column."""
    names = stripped(table.names)
    return [
        f"data.exclude names {name!r}, but {table.path} has no such column.{nearest(name, names)}"
        for name in stripped(data.exclude)
        if not any(_matches(one, [name]) for one in names)
    ]


def in_order_of(source: Source, columns: Columns | None) -> Source:
    """Return a source with its inputs in the order of a run's `columns`, if they have the same names; else as it is.

    None: in the order of the file, for runs of versions that kept no names.
    """
    given, places = source.columns, source.file_places
    if given is None or source.inputs:
        return source
    if columns is None:
        order = sorted(range(len(places)), key=places.__getitem__)
        names = Columns(tuple(given.inputs[place] for place in order), given.targets)
        return reordered(source, order, names) if order != [*range(len(places))] else source
    if given.inputs == columns.inputs or sorted(given.inputs) != sorted(columns.inputs):
        return source
    if len(set(given.inputs)) < len(given.inputs):
        return source
    return reordered(source, [given.inputs.index(name) for name in columns.inputs], columns)


def reordered(source: Source, places: Sequence[int], columns: Columns) -> Source:
    """Return a source with the inputs at `places`, in that order, which then have the names of `columns`."""
    x, held = _picked(source.x, places), source.validation
    return replace(
        source,
        x=x,
        columns=columns,
        validation=held and (_picked(held[0], places), held[1]),
        digests=(),
        file_places=(),
    )


def _picked(rows: Rows, places: Sequence[int]) -> Rows:
    assert isinstance(rows, ArrayRows), "only tables have names, and they are in memory"
    array = rows.array[:, list(places)]
    return (
        TableRows(array, [rows.fields[place] for place in places]) if isinstance(rows, TableRows) else ArrayRows(array)
    )

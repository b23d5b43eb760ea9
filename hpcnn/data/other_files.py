"""Reads files other than those of the job, for evaluation and prediction. The ending determines the format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import DTypeLike

from hpcnn.data.checks import check_finite, check_not_empty, check_samples
from hpcnn.data.columns import Columns
from hpcnn.data.readers import READERS, read_source, reader_of
from hpcnn.data.readers.reader import Reader
from hpcnn.data.reduction import SERIAL, Reduction
from hpcnn.data.rows import ReshapedRows, Rows, materialize
from hpcnn.data.sample_weights import weights_of
from hpcnn.data.samples import Samples, Scaling
from hpcnn.data.source import Inputs, Source, find_folder
from hpcnn.data.tables.encode import encoded, encoded_inputs, unknown_notes
from hpcnn.data.tables.recipe import Recipe
from hpcnn.data.tables.select import in_order_of, like, reordered
from hpcnn.data.time_windows import windows_of_inputs, windows_of_samples
from hpcnn.errors import DataError, nearest
from hpcnn.job import data as schema
from hpcnn.job.window import Window

INPUTS = {ending: reader for reader in READERS for ending in reader.endings}
"""Readers of inputs by the ending of the file."""
SAMPLES = {ending: reader for ending, reader in INPUTS.items() if reader.holds_targets}
"""Readers of inputs and targets from one file, by its ending."""


def _find_reader(path: str, data: schema.DataSection, readers: Mapping[str, Reader[Any]], use: str) -> Reader[Any]:
    """Return the reader for the ending of `path`; for an unknown ending, that of the job's data."""
    known = next((reader for ending, reader in readers.items() if path.lower().endswith(ending)), None)
    own = reader_of(data)
    if known is None and (own in readers.values() or own.any_ending):
        known = own
    if known is not None:
        return known
    near = nearest(Path(path).suffix.lower()[1:], [ending[1:] for ending in readers]).replace("'", "'.", 1)
    raise DataError(
        f"{path!r} does not end like a file for {use}.{near} "
        f"Known endings: {', '.join(readers)}; others are read if the job's own data are in a file of that format."
    )


def _folder_reader(path: str, data: schema.DataSection, readers: Mapping[str, Reader[Any]]) -> Reader[Any] | None:
    """Return the reader of a folder that is one file to it: by its ending, else that of the job's data."""
    name, own = path.rstrip("/").lower(), reader_of(data)
    known = next((one for ending, one in readers.items() if one.folders and name.endswith(ending)), None)
    return known or (own if own.folders and own in readers.values() else None)


def _with_window(settings: schema.DataSection, window: Window | None) -> schema.DataSection:
    return msgspec.structs.replace(settings, window=window)


Once = Callable[[Callable[[], Any]], Any]
"""Calls a function that reads a file; see `read_inputs`."""


def _called(read: Callable[[], Any]) -> Any:
    return read()


def read_inputs(
    path: str,
    data: schema.DataSection,
    base: Path,
    *,
    dtype: DTypeLike = np.float32,
    scaling: Scaling | None = None,
    columns: Columns | None = None,
    features: int | None = None,
    recipe: Recipe | None = None,
    reduction: Reduction = SERIAL,
    once: Once = _called,
) -> Inputs:
    """Return the inputs of a file for prediction. Its format follows from its ending (`INPUTS`), or is that of the job.

    Args:
        path: the file, of tables also a folder of parts, a pattern or an address; see `resolve` for where it may be.
        data: the job's section; names of arrays and target columns come from it where the format is the same.
        base: the job file's folder.
        dtype: the job's type.
        scaling: that of the training run.
        columns: those of the training run; inputs with named columns are reordered to match.
        features: number of entries of a sample, if known; tells whether a CSV file without names contains targets.
        recipe: what became of the columns of the training run.
        reduction: distributes the checks over the ranks; collective.
        once: calls what reads the file, on one rank of each node, and returns its result on all; collective.

    Raises:
        DataError: a missing or damaged file, an unknown ending, or values that are not finite.
    """
    own, folder = reader_of(data), find_folder(path, base)
    reader = _folder_reader(path, data, INPUTS) if folder is not None else None
    found: Any = folder
    if reader is None:
        reader = _find_reader(path, data, INPUTS, "prediction")
        found = reader.find(path, base)
    window = data.window
    settings = data if reader is own else _with_window(like(reader.settings_for(str(found), columns), data), window)
    width = features // window.steps if features and window else features
    inputs: Inputs = once(lambda: reader.read_inputs(found, settings, columns, width))
    x = ReshapedRows(inputs.x, (1,)) if len(inputs.x.shape) == 1 else inputs.x
    notes = unknown_notes(x, recipe, path)
    x = ready_inputs(x, path, dtype=dtype, scaling=scaling, recipe=recipe, reduction=reduction)
    if window is not None:
        return Inputs(windows_of_inputs(x, inputs.groups, window, path, features), notes=notes)
    names = recipe.features if recipe and recipe.columns and x.shape[1:] == (len(recipe.features),) else None
    return Inputs(x, names or inputs.feature_names, notes, files=inputs.files)


def ready_inputs(
    x: Rows, what: str, *, dtype: DTypeLike, scaling: Scaling | None, recipe: Recipe | None, reduction: Reduction
) -> Rows:
    """Check inputs and return them in the form that the model takes; see `read_inputs`. `what` names them."""
    check_not_empty(x, what)
    x = encoded_inputs(x, recipe, f"inputs of {what}", reduction)
    check_finite(x, f"inputs of {what}", np.float64 if scaling else dtype, reduction)
    return materialize(scaling.apply(x) if scaling else x, dtype)


def order_note(path: str, data: schema.DataSection, base: Path) -> tuple[str, ...]:
    """Return a warning for a table with names if the model kept none although the data of its job have names."""
    own = reader_of(data)
    if not own.has_names(data) or "," in path or find_folder(path, base) is not None:
        return ()
    reader = next((reader for ending, reader in INPUTS.items() if path.lower().endswith(ending)), own)
    if not reader.has_names(data if reader is own else reader.settings_for(str(reader.find(path, base)), None)):
        return ()
    return (
        f"the columns of {path} are used in order, regardless of their names: the version of hpcnn that trained the "
        "model did not store those of its training data. Give them in that order.",
    )


def _sample_settings(path: str, data: schema.DataSection, base: Path, columns: Columns | None) -> schema.DataSection:
    """Return the settings for reading `path`: those of the job where the format is the same."""
    found = _folder_reader(path, data, SAMPLES) if find_folder(path, base) is not None else None
    if found is not None:
        return found.sample_settings(path, data, columns)  # type: ignore[no-any-return]
    for reader in (reader_of(data), *READERS):
        if (settings := reader.pair_settings(path, data, base)) is not None:
            return settings  # type: ignore[no-any-return]
    return _find_reader(path, data, SAMPLES, "evaluation").sample_settings(path, data, columns)  # type: ignore[no-any-return]


def read_samples(
    path: str,
    data: schema.DataSection,
    base: Path,
    *,
    dtype: DTypeLike = np.float32,
    scaling: Scaling | None = None,
    columns: Columns | None = None,
    features: int | None = None,
    recipe: Recipe | None = None,
    target_scaling: Scaling | None = None,
    reduction: Reduction = SERIAL,
    once: Once = _called,
) -> Samples:
    """Return inputs and targets of a file for evaluation. Targets are not prepared yet.

    Args:
        path: .npz, .csv, .h5, .parquet, or any ending for the format of the job's own data; two .npy files as
            "x.npy,y.npy"; or a folder of IDX files, of which the validation (test) pair is taken if it is there, else
            the training pair.
        data: the job's section; names of arrays, files and target columns come from it where the format is the same.
        base: the job file's folder.
        dtype: the job's type.
        scaling: that of the training run.
        columns: those of the training run; inputs with named columns are reordered to match.
        features: number of entries of a sample, if known; tells whether a file holds windows already.
        recipe: what became of the columns of the training run.
        target_scaling: that of the targets of the training run.
        reduction: distributes the checks over the ranks; collective.
        once: calls what reads the file, on one rank of each node, and returns its result on all; collective.

    Raises:
        DataError: a missing or damaged file, an unknown ending, values that are not finite, or counts that differ.
    """

    def read() -> Source:
        source = read_source(_with_window(_sample_settings(path, data, base, columns), data.window), base)
        if columns is None or source.columns is None:
            return source if columns is not None else in_order_of(source, None)
        return reordered(source, columns.places(source.columns.inputs, path), columns)

    source: Source = once(read)
    samples = ready_samples(
        source, path, dtype=dtype, scaling=scaling, recipe=recipe, target_scaling=target_scaling, reduction=reduction
    )
    if data.window is None:
        return samples
    return windows_of_samples(samples, source.groups, data.window, path, features)


def ready_samples(
    source: Source,
    what: str,
    *,
    dtype: DTypeLike,
    scaling: Scaling | None,
    recipe: Recipe | None,
    target_scaling: Scaling | None,
    reduction: Reduction,
) -> Samples:
    """Check samples and return them with inputs in the form that the model takes; see `read_samples`."""
    notes = unknown_notes(source.x, recipe, what)
    source = encoded(source, recipe, what, reduction)
    dtypes = (np.float64 if scaling else dtype, np.float64 if target_scaling else dtype)
    targets = source.columns.targets if source.columns else None
    check_samples(source.x, source.y, what, dtypes, reduction, source.feature_names, targets)
    x = materialize(scaling.apply(source.x) if scaling else source.x, dtype)
    y = target_scaling.apply(source.y, "targets") if target_scaling else source.y
    return Samples(x, y, source.feature_names, notes, weights_of(source, what, dtype, reduction))

"""Other files than the job's, for evaluation and prediction: the format follows from the ending of the name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import DTypeLike

from hpcnn.data.checks import check_finite, check_not_empty, check_samples
from hpcnn.data.columns import Columns
from hpcnn.data.readers import csv, hdf5, idx, npy, npz, parquet, read_source
from hpcnn.data.reduction import SERIAL, Reduction
from hpcnn.data.rows import ArrayRows, ReshapedRows, Rows, materialize
from hpcnn.data.samples import Samples, Scaling
from hpcnn.data.source import Source, places, resolve
from hpcnn.errors import DataError, nearest
from hpcnn.job import data as schema

INPUTS: dict[str, type[schema.DataSection]] = {
    ".npy": schema.Npy,
    ".npz": schema.Npz,
    ".csv": schema.Csv,
    ".h5": schema.Hdf5,
    ".hdf5": schema.Hdf5,
    ".parquet": schema.Parquet,
    "-ubyte": schema.Idx,
    "-ubyte.gz": schema.Idx,
    ".idx": schema.Idx,
    ".idx.gz": schema.Idx,
}
"""What reads inputs, by the ending of their file."""
SAMPLES = {ending: kind for ending, kind in INPUTS.items() if kind not in (schema.Npy, schema.Idx)}
"""What reads inputs and targets from one file."""


def _kind(
    path: str, kinds: Mapping[str, type[schema.DataSection]], data: schema.DataSection, use: str
) -> type[schema.DataSection]:
    """Return what reads `path` by its ending; for others, what the job reads its own data by, if it is one of these."""
    for ending, kind in kinds.items():
        if path.lower().endswith(ending):
            return kind
    if type(data) in kinds.values():
        return type(data)
    suffix = Path(path).suffix.lower()
    raise DataError(
        f"{path!r} does not end like a file for {use}.{nearest(suffix, kinds) if suffix else ''} "
        f"Known endings: {', '.join(kinds)}; others are read if the job's own data are in a file of that format."
    )


def _read_x(
    path: Path, kind: type[schema.DataSection], data: schema.DataSection, columns: Columns | None, features: int | None
) -> Rows:
    if kind is schema.Npy:
        return npy.read_array(path)
    if kind is schema.Npz:
        return npz.read_arrays(path, data.x if isinstance(data, schema.Npz) else "x")[0]
    if kind is schema.Hdf5:
        return hdf5.read_datasets(path, data.x if isinstance(data, schema.Hdf5) else "x")[0]
    if kind is schema.Csv:
        section = data if isinstance(data, schema.Csv) else csv.guess(path, columns)
        return csv.read_inputs(path, section, features, columns)
    if kind is schema.Parquet:
        return parquet.read_inputs(path, data.targets if isinstance(data, schema.Parquet) else [], columns)
    return idx.read_idx(path)


def read_inputs(
    path: str,
    data: schema.DataSection,
    base: Path,
    *,
    dtype: DTypeLike = np.float32,
    scaling: Scaling | None = None,
    columns: Columns | None = None,
    features: int | None = None,
    reduction: Reduction = SERIAL,
) -> Rows:
    """Return the inputs of a file, for prediction: .npy, .npz, .csv, .h5, .parquet, an IDX file, or as the job's data.

    Args:
        path: the file; see `resolve` for where it may be.
        data: the job's section; names of arrays and target columns come from it where the format is the same.
        base: the job file's folder.
        dtype: the job's type.
        scaling: that of the training run.
        columns: those of the training run: inputs of a table with named columns are put in their order.
        features: entries of one sample, where known: tells whether a CSV file without names still has its targets.
        reduction: shares out the checks among ranks; collective.

    Raises:
        DataError: a missing or damaged file, an unknown ending, or values that are not finite.
    """
    kind = _kind(path, INPUTS, data, "prediction")
    x = _read_x(resolve(path, base), kind, data, columns, features)
    x = ReshapedRows(x, (1,)) if len(x.shape) == 1 else x
    return ready_inputs(x, path, dtype=dtype, scaling=scaling, reduction=reduction)


def ready_inputs(x: Rows, what: str, *, dtype: DTypeLike, scaling: Scaling | None, reduction: Reduction) -> Rows:
    """Return inputs as the model takes them, once they are checked; see `read_inputs`. `what` names them."""
    check_not_empty(x, what)
    check_finite(x, f"inputs of {what}", np.float64 if scaling else dtype, reduction)
    return materialize(scaling.apply(x) if scaling else x, dtype)


def order_note(path: str, data: schema.DataSection, base: Path) -> tuple[str, ...]:
    """Return a warning of a table with names, for a model whose names were not kept though its job's data have some."""
    if not (isinstance(data, schema.Parquet) or (isinstance(data, schema.Csv) and data.header)):
        return ()
    if "," in path or any(place.is_dir() for place in places(path, base)):
        return ()
    kind = next((kind for ending, kind in INPUTS.items() if path.lower().endswith(ending)), type(data))
    if kind is schema.Csv and not isinstance(data, schema.Csv):
        named = csv.guess(resolve(path, base)).header
    else:
        named = kind in (schema.Csv, schema.Parquet)
    text = (
        f"the columns of {path} are taken in order, whatever their names: the version of hpcnn that trained the model "
        "did not keep those of its training data. Give them in the order of these."
    )
    return (text,) if named else ()


def _section(path: str, data: schema.DataSection, base: Path, columns: Columns | None) -> schema.DataSection:
    """Return the section that reads `path`, with the job's settings where the format is the same."""
    folder = next((place for place in places(path, base) if place.is_dir()), None)
    if folder is not None:
        names = data if isinstance(data, schema.Idx) else schema.Idx(folder=path)
        held = (names.validation_images, names.validation_labels)
        found = all(name and idx.find(folder, name) for name in held)
        images, labels = held if found else (names.images, names.labels)
        return schema.Idx(folder=str(folder), images=images, labels=labels, validation_images="", validation_labels="")
    x_path, comma, y_path = path.partition(",")
    if comma:
        return schema.Npy(x_path=x_path.strip(), y_path=y_path.strip())
    if path.endswith(".npy"):
        raise DataError(f"{path!r} holds inputs alone. For evaluation give two files, as 'x.npy,y.npy'.")
    kind = _kind(path, SAMPLES, data, "evaluation")
    settings: dict[str, Any] = {"path": path}
    if kind in (schema.Csv, schema.Parquet) and not (kind is schema.Csv and not getattr(data, "header", True)):
        settings |= _targets(path, kind, data, columns)
    if not isinstance(data, kind):
        return kind(**settings)
    return msgspec.structs.replace(data, **settings, validation_path="", validation_fraction=0.0)


def _targets(
    path: str, kind: type[schema.DataSection], data: schema.DataSection, columns: Columns | None
) -> dict[str, Any]:
    """Return which columns of a table are targets: by the names that the model knows, wherever they stand."""
    if columns is not None and columns.targets:
        return {"targets": list(columns.targets)}
    if isinstance(data, kind):
        return {}
    tag = kind.__struct_config__.tag
    raise DataError(
        f"{path!r} has named columns, but the job's data.source is {data.__struct_config__.tag!r}, not {tag!r}: "
        "nothing says which columns are targets. Give a .npz file in its place."
    )


def read_samples(
    path: str,
    data: schema.DataSection,
    base: Path,
    *,
    dtype: DTypeLike = np.float32,
    scaling: Scaling | None = None,
    columns: Columns | None = None,
    reduction: Reduction = SERIAL,
) -> Samples:
    """Return inputs and targets of a file, for evaluation. Targets are still to be prepared.

    Args:
        path: .npz, .csv, .h5, .parquet, or any ending for the format of the job's own data; two .npy files as
            "x.npy,y.npy"; or a folder of IDX files, of which the validation (test) pair is taken if it is there, else
            the training pair.
        data: the job's section; names of arrays, files and target columns come from it where the format is the same.
        base: the job file's folder.
        dtype: the job's type.
        scaling: that of the training run.
        columns: those of the training run: inputs of a table with named columns are put in their order.
        reduction: shares out the checks among ranks; collective.

    Raises:
        DataError: a missing or damaged file, an unknown ending, values that are not finite, or counts that differ.
    """
    source = read_source(_section(path, data, base, columns), base)
    if columns is not None and source.columns is not None:
        assert isinstance(source.x, ArrayRows), "only tables have names, and they lie in memory"
        order = columns.places(source.columns.inputs, path)
        source = replace(source, x=ArrayRows(source.x.array[:, order]), columns=columns)
    return ready_samples(source, path, dtype=dtype, scaling=scaling, reduction=reduction)


def ready_samples(
    source: Source, what: str, *, dtype: DTypeLike, scaling: Scaling | None, reduction: Reduction
) -> Samples:
    """Return samples with inputs as the model takes them, once they are checked; see `read_samples`."""
    dtypes = (np.float64 if scaling else dtype, dtype)
    check_samples(source.x, source.y, what, dtypes, reduction, source.feature_names)
    return Samples(materialize(scaling.apply(source.x) if scaling else source.x, dtype), source.y)

"""Other files than the job's, for evaluation and prediction: the format follows from the ending of the name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import DTypeLike

from hpcnn.data.checks import check_finite, check_not_empty, check_samples
from hpcnn.data.readers import csv, hdf5, idx, npy, npz, parquet, read_source
from hpcnn.data.reduction import SERIAL, Reduction
from hpcnn.data.rows import ReshapedRows, Rows, materialize
from hpcnn.data.samples import Samples, Scaling
from hpcnn.data.source import Source, places, resolve
from hpcnn.errors import DataError, nearest
from hpcnn.job import data as schema

INPUT_ENDINGS = (".npy", ".npz", ".csv", ".h5", ".hdf5", ".parquet", "-ubyte", "-ubyte.gz", ".idx", ".idx.gz")
SAMPLE_ENDINGS = (".npz", ".csv", ".h5", ".hdf5", ".parquet")


def _ending(path: str, endings: tuple[str, ...], use: str) -> str:
    for ending in endings:
        if path.lower().endswith(ending):
            return ending
    suffix = Path(path).suffix.lower()
    raise DataError(
        f"{path!r} does not end like a file for {use}.{nearest(suffix, endings) if suffix else ''} "
        f"Known endings: {', '.join(endings)}."
    )


def _same_source(data: schema.DataSection, kind: type[schema.Csv | schema.Parquet], path: str) -> None:
    if not isinstance(data, kind):
        tag = kind.__struct_config__.tag
        raise DataError(
            f"{path!r} has named columns, but the job's data.source is {data.__struct_config__.tag!r}, not {tag!r}: "
            "nothing says which columns are targets. Give a .npz file in its place."
        )


def _read_x(path: Path, ending: str, data: schema.DataSection, features: int | None) -> Rows:
    if ending == ".npy":
        return npy.read_array(path)
    if ending == ".npz":
        return npz.read_arrays(path, data.x if isinstance(data, schema.Npz) else "x")[0]
    if ending in (".h5", ".hdf5"):
        return hdf5.read_datasets(path, data.x if isinstance(data, schema.Hdf5) else "x")[0]
    if ending == ".csv":
        return csv.read_inputs(path, data if isinstance(data, schema.Csv) else csv.guess(path), features)
    if ending == ".parquet":
        return parquet.read_inputs(path, data.targets if isinstance(data, schema.Parquet) else [])
    return idx.read_idx(path)


def read_inputs(
    path: str,
    data: schema.DataSection,
    base: Path,
    *,
    dtype: DTypeLike = np.float32,
    scaling: Scaling | None = None,
    features: int | None = None,
    reduction: Reduction = SERIAL,
) -> Rows:
    """Return the inputs of a file, for prediction: .npy, .npz, .csv, .h5, .parquet, or an IDX file of images.

    Args:
        path: the file; see `resolve` for where it may be.
        data: the job's section; names of arrays and target columns come from it where the format is the same.
        base: the job file's folder.
        dtype: the job's type.
        scaling: that of the training run.
        features: entries of one sample, where known: tells whether a CSV file without names still has its targets.
        reduction: shares out the checks among ranks; collective.

    Raises:
        DataError: a missing or damaged file, an unknown ending, or values that are not finite.
    """
    ending = _ending(path, INPUT_ENDINGS, "prediction")
    x = _read_x(resolve(path, base), ending, data, features)
    x = ReshapedRows(x, (1,)) if len(x.shape) == 1 else x
    return ready_inputs(x, path, dtype=dtype, scaling=scaling, reduction=reduction)


def ready_inputs(x: Rows, what: str, *, dtype: DTypeLike, scaling: Scaling | None, reduction: Reduction) -> Rows:
    """Return inputs as the model takes them, once they are checked; see `read_inputs`. `what` names them."""
    check_not_empty(x, what)
    check_finite(x, f"inputs of {what}", np.float64 if scaling else dtype, reduction)
    return materialize(scaling.apply(x) if scaling else x, dtype)


def _section(path: str, data: schema.DataSection, base: Path) -> schema.DataSection:
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
    ending = _ending(path, SAMPLE_ENDINGS, "evaluation")
    kind: Callable[..., schema.DataSection] = schema.Npz if ending == ".npz" else schema.Hdf5
    if ending == ".csv":
        _same_source(data, schema.Csv, path)
    elif ending == ".parquet":
        _same_source(data, schema.Parquet, path)
    elif not isinstance(data, schema.Npz if ending == ".npz" else schema.Hdf5):
        return kind(path=path)
    return msgspec.structs.replace(data, path=path, validation_path="", validation_fraction=0.0)


def read_samples(
    path: str,
    data: schema.DataSection,
    base: Path,
    *,
    dtype: DTypeLike = np.float32,
    scaling: Scaling | None = None,
    reduction: Reduction = SERIAL,
) -> Samples:
    """Return inputs and targets of a file, for evaluation. Targets are still to be prepared.

    Args:
        path: .npz, .csv, .h5 or .parquet; two .npy files as "x.npy,y.npy"; or a folder of IDX files, of which the
            validation (test) pair is taken if it is there, else the training pair.
        data: the job's section; names of arrays, files and target columns come from it where the format is the same.
        base: the job file's folder.
        dtype: the job's type.
        scaling: that of the training run.
        reduction: shares out the checks among ranks; collective.

    Raises:
        DataError: a missing or damaged file, an unknown ending, values that are not finite, or counts that differ.
    """
    source = read_source(_section(path, data, base), base)
    return ready_samples(source, path, dtype=dtype, scaling=scaling, reduction=reduction)


def ready_samples(
    source: Source, what: str, *, dtype: DTypeLike, scaling: Scaling | None, reduction: Reduction
) -> Samples:
    """Return samples with inputs as the model takes them, once they are checked; see `read_samples`."""
    dtypes = (np.float64 if scaling else dtype, dtype)
    check_samples(source.x, source.y, what, dtypes, reduction, source.feature_names)
    return Samples(materialize(scaling.apply(source.x) if scaling else source.x, dtype), source.y)

"""What is explained: rows of a file or of the job's own data, and the names of their features."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpcnn.comm.collectives import TreeReduction
from hpcnn.comm.protocol import Communicator
from hpcnn.data.load import Samples, read_inputs, read_samples
from hpcnn.data.readers.csv_text import is_number
from hpcnn.data.rows import Rows, SubsetRows
from hpcnn.data.source import resolve
from hpcnn.errors import DataError
from hpcnn.job import data as schema
from hpcnn.runs.build import prepared
from hpcnn.runs.inference import Trained, own_splits

Names = tuple[str, ...]


@dataclass(frozen=True)
class Chosen:
    """The rows to explain."""

    what: str
    """Where they come from, in words."""
    numbers: NDArray[np.int64]
    """Their numbers, from 0."""
    shape: tuple[int, ...]
    """Of one sample."""
    names: Names | None
    """Of the features, where they are known."""


def chosen_inputs(
    trained: Trained, comm: Communicator, path: str | None, rows: slice
) -> tuple[Chosen, NDArray[np.float64]]:
    """Return the chosen rows of a file, or of the job's data; scaled, in the network's input shape.

    Collective, and to be called within `agree`.

    Raises:
        DataError: a file that can't be read or does not fit, or no such rows.
    """
    network, job = trained.parts.network, trained.job
    features = int(np.prod(network.input_shape))
    if path is None:
        what, samples, names = _own(trained, comm)
        x = samples.x
    else:
        x = read_inputs(
            path, job.data, Path(), dtype=job.train.dtype, scaling=trained.scaling, columns=trained.columns,
            features=features, reduction=TreeReduction(comm),
        )  # fmt: skip
        what, names = path, _names(trained, path)
    if int(np.prod(x.shape[1:])) != features:
        raise DataError(f"{what} has inputs of shape {x.shape[1:]} a sample, but the model takes {network.input_shape}")
    numbers = _numbers(x, rows, what)
    values = np.empty((len(numbers), *x.shape[1:]), job.train.dtype)
    x.take(numbers, values)
    return Chosen(what, numbers, trained.parts.network.input_shape, names), values.astype(np.float64).reshape(
        -1, *network.input_shape
    )


def chosen_samples(trained: Trained, comm: Communicator, path: str | None, rows: slice) -> tuple[Chosen, Samples]:
    """Return the chosen rows with their targets, as the loss wants them. Collective, and to be called within `agree`.

    Raises:
        DataError: a file that can't be read or does not fit, or no such rows.
    """
    job, reduction = trained.job, TreeReduction(comm)
    if path is None:
        what, samples, names = _own(trained, comm)
    else:
        samples = read_samples(
            path, job.data, Path(), dtype=job.train.dtype, scaling=trained.scaling, columns=trained.columns,
            reduction=reduction,
        )  # fmt: skip
        what, names = path, _names(trained, path)
    samples = prepared(job, trained.parts, samples, f"the targets of {what}", reduction)
    numbers = _numbers(samples.x, rows, what)
    if len(numbers) < len(samples):
        samples = Samples(SubsetRows(samples.x, numbers), SubsetRows(samples.y, numbers))
    return Chosen(what, numbers, trained.parts.network.input_shape, names), samples


def _own(trained: Trained, comm: Communicator) -> tuple[str, Samples, Names | None]:
    """Return the job's validation data, or its training data if it has none, in words too, and the features' names."""
    splits = own_splits(trained, comm)
    if splits.validation is not None:
        return "validation data", splits.validation, splits.feature_names
    return "training data (the job has no validation data)", splits.train, splits.feature_names


def _numbers(x: Rows, rows: slice, what: str) -> NDArray[np.int64]:
    numbers = np.arange(x.shape[0], dtype=np.int64)[rows]
    if not len(numbers):
        first, last = ("" if end is None else end for end in (rows.start, rows.stop))
        raise DataError(f"--rows {first}:{last} takes no row: {what} has only rows 0 to {x.shape[0] - 1}")
    return numbers


def _names(trained: Trained, path: str) -> Names | None:
    """Return the names of the features of a file that was read: the model's, if it has any, in whose order they are."""
    if trained.columns is not None:
        return trained.columns.inputs
    return _header(path, trained.job.data, int(np.prod(trained.parts.network.input_shape)))


def _header(path: str, data: schema.DataSection, features: int) -> Names | None:
    """Return the names of the features in the first line of a CSV file that was read, if there are any."""
    if not path.lower().endswith(".csv"):
        return None
    delimiter = data.delimiter if isinstance(data, schema.Csv) else ","
    targets = data.targets if isinstance(data, schema.Csv) else []
    with resolve(path, Path()).open(encoding="utf-8-sig", newline="", errors="replace") as file:
        names = [cell.strip() for cell in next(csv.reader(file, delimiter=delimiter), [])]
    if len(names) != features:
        places = {target % len(names) for target in targets if isinstance(target, int) and names}
        names = [name for place, name in enumerate(names) if place not in places and name not in targets]
    named = len(names) == features and not all(map(is_number, names))
    return tuple(names) if named else None

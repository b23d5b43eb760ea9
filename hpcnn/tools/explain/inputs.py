"""Selects the rows to explain, from a file or the job's own data, with the names of their features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpcnn.comm.collectives import TreeReduction
from hpcnn.comm.protocol import Communicator
from hpcnn.data.load import Samples, read_inputs, read_samples
from hpcnn.data.rows import Rows
from hpcnn.errors import DataError
from hpcnn.runs.build import prepared
from hpcnn.runs.inference import TrainedModel, own_splits

Names = tuple[str, ...]


@dataclass(frozen=True)
class ExplainedRows:
    """The rows to explain."""

    what: str
    """Their source, in words."""
    numbers: NDArray[np.int64]
    """Their numbers, from 0."""
    shape: tuple[int, ...]
    """Shape of one sample."""
    names: Names | None
    """Names of the features, if known."""


def chosen_inputs(
    trained: TrainedModel, comm: Communicator, path: str | None, rows: slice
) -> tuple[ExplainedRows, NDArray[np.float64]]:
    """Return the chosen rows of a file, or of the job's data; scaled, in the network's input shape.

    Collective, and to be called within `agree`.
    """
    network, job = trained.spec.network, trained.job
    features = int(np.prod(network.input_shape))
    if path is None:
        what, samples = _own(trained, comm)
        x, names = samples.x, samples.feature_names
    else:
        inputs = read_inputs(
            path, trained.data, Path(), dtype=job.train.dtype, scaling=trained.scaling, columns=trained.columns,
            features=features, recipe=trained.recipe, reduction=TreeReduction(comm),
        )  # fmt: skip
        what, x, names = path, inputs.x, inputs.feature_names
    if int(np.prod(x.shape[1:])) != features:
        raise DataError(f"{what} has inputs of shape {x.shape[1:]} a sample, but the model takes {network.input_shape}")
    numbers = _numbers(x, rows, what)
    values = np.empty((len(numbers), *x.shape[1:]), job.train.dtype)
    x.take(numbers, values)
    return ExplainedRows(what, numbers, trained.spec.network.input_shape, names), values.astype(np.float64).reshape(
        -1, *network.input_shape
    )


def chosen_samples(
    trained: TrainedModel, comm: Communicator, path: str | None, rows: slice
) -> tuple[ExplainedRows, Samples]:
    """Return the chosen rows with their prepared targets. Collective, and to be called within `agree`."""
    job, reduction = trained.job, TreeReduction(comm)
    if path is None:
        what, samples = _own(trained, comm)
    else:
        what = path
        samples = read_samples(
            path, trained.data, Path(), dtype=job.train.dtype, scaling=trained.scaling, columns=trained.columns,
            features=int(np.prod(trained.spec.network.input_shape)), recipe=trained.recipe,
            target_scaling=trained.target_scaling, reduction=reduction,
        )  # fmt: skip
    names = samples.feature_names
    samples = prepared(job, trained.spec, samples, f"the targets of {what}", reduction)
    numbers = _numbers(samples.x, rows, what)
    if len(numbers) < len(samples):
        samples = samples.subset(numbers)
    return ExplainedRows(what, numbers, trained.spec.network.input_shape, names), samples


def _own(trained: TrainedModel, comm: Communicator) -> tuple[str, Samples]:
    """Return the job's validation data, or its training data if it has none, and a description."""
    splits = own_splits(trained, comm)
    if splits.validation is not None:
        return "validation data", splits.validation
    return "training data (the job has no validation data)", splits.train


def _numbers(x: Rows, rows: slice, what: str) -> NDArray[np.int64]:
    numbers = np.arange(x.shape[0], dtype=np.int64)[rows]
    if not len(numbers):
        first, last = ("" if end is None else end for end in (rows.start, rows.stop))
        raise DataError(f"--rows {first}:{last} takes no row: {what} has only rows 0 to {x.shape[0] - 1}")
    return numbers

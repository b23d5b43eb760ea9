"""Permutation importance: how much worse the model becomes if one input is shuffled over the samples."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hpcnn.comm.protocol import Communicator
from hpcnn.data.rows import Array, Buffer, Rows
from hpcnn.data.sampler import Indices
from hpcnn.data.samples import Samples
from hpcnn.errors import DataError
from hpcnn.runs.build import piece_loader
from hpcnn.runs.inference import TrainedModel
from hpcnn.training.loop import evaluate
from hpcnn.training.metrics import lower_is_better, scalars

SHUFFLE_STREAM = 5
"""Random stream of the shuffles."""


@dataclass(frozen=True)
class Importance:
    """The effect of shuffling each input on the score."""

    score: str
    """Name of the metric."""
    value: float
    """The metric with nothing shuffled."""
    worse: NDArray[np.float64]
    """Deterioration of the metric, shape (features, repeats); negative values are chance improvements."""

    @property
    def mean(self) -> NDArray[np.float64]:
        """Of each feature over the repeats."""
        return np.asarray(self.worse.mean(axis=1))

    @property
    def spread(self) -> NDArray[np.float64]:
        """Standard deviation of each feature over the repeats."""
        repeats = self.worse.shape[1]
        return np.asarray(self.worse.std(axis=1, ddof=1 if repeats > 1 else 0))


class ShuffledRows:
    """Rows with one feature permuted: row i has that of row ``order[i]``."""

    def __init__(self, rows: Rows, feature: int, order: Indices) -> None:
        self.rows, self._feature, self._order = rows, feature, order
        self.shape, self.dtype = rows.shape, rows.dtype
        self._others: Buffer | None = None

    def take(self, indices: Indices, out: Array) -> None:
        """Write rows into `out`; see `Rows.take`."""
        if self._others is None or self._others.dtype != out.dtype:
            self._others = Buffer(self.shape[1:], out.dtype)
        others = self._others.rows(len(indices))
        self.rows.take(self._order[indices], others)
        self.rows.take(indices, out)
        out.reshape(len(out), -1)[:, self._feature] = others.reshape(len(out), -1)[:, self._feature]


def permutation_importance(trained: TrainedModel, comm: Communicator, samples: Samples, repeats: int) -> Importance:
    """Return the importance of each input for the job's first metric, or its loss (Breiman, 2001).

    The same bits on any number of ranks. Collective, and to be called within `agree`.
    """
    if len(samples) < 2:
        raise DataError(f"permutation importance needs 2 samples at least, but there is {len(samples)}")

    def values_of(x: Rows) -> dict[str, float]:
        loader = piece_loader(trained.job, trained.spec, replace(samples, x=x))
        return scalars(evaluate(comm, trained.model, loader))

    values = values_of(samples.x)
    score = next((name for name in values if name != "loss"), "loss")
    sign = -1.0 if lower_is_better(score) else 1.0
    features = int(np.prod(samples.x.shape[1:]))
    worse = np.empty((features, repeats))
    for feature, repeat in np.ndindex(features, repeats):
        generator = np.random.default_rng([trained.job.train.seed, SHUFFLE_STREAM, feature, repeat])
        shuffled = ShuffledRows(samples.x, feature, generator.permutation(len(samples)))
        worse[feature, repeat] = sign * (values[score] - values_of(shuffled)[score])
    return Importance(score, values[score], worse)

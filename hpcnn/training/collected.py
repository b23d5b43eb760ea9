"""What an evaluation keeps of its samples for metrics that need all of them at once."""

from __future__ import annotations

import numpy as np

from hpcnn.comm.protocol import Array, Communicator
from hpcnn.training.metrics import Value
from hpcnn.training.model import Model
from hpcnn.training.step_stats import Stats


class Collected:
    """Rows of the samples that this rank evaluates, for each such metric of a model."""

    def __init__(self, model: Model) -> None:
        self._model, self._metrics = model, model.layout.collected
        dtype = model.vector.dtype
        self._rows: list[list[Array]] = [[np.empty((0, *metric.row_shape), dtype)] for metric in self._metrics]

    def piece(self, x: Array, y: Array, weights: Array | None) -> Stats:
        """Evaluate a piece of samples, and keep its rows; return its stats."""
        return self._model.eval_piece(x, y, weights, self._keep if self._metrics else None)

    def _keep(self, outputs: Array, y: Array, weights: Array | None) -> None:
        for rows, new in zip(self._rows, self._model.layout.rows(outputs, y, weights), strict=True):
            rows.append(new.astype(rows[0].dtype))

    def values(self, comm: Communicator, prefix: str) -> dict[str, Value]:
        """Return the metrics of the rows of all ranks. Collective; after what may fail on one rank alone."""
        values: dict[str, Value] = {}
        for metric, rows in zip(self._metrics, self._rows, strict=True):
            everyone = comm.gather_arrays(np.concatenate(rows))
            value = None if everyone is None else metric.of_rows(np.concatenate(everyone))
            values[prefix + metric.name] = comm.broadcast(value)
        return values

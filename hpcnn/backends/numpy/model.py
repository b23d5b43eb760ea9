"""The NumPy model as it stands, without training: loss and metrics of samples, predictions, weights in and out."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.comm.protocol import Array
from hpcnn.nn.context import Context
from hpcnn.nn.loss import BoundLoss
from hpcnn.nn.matmul import matmul_on
from hpcnn.nn.network import Network
from hpcnn.system.denormals import FlushDenormals
from hpcnn.system.memory import aligned_empty
from hpcnn.training.step_stats import COUNT, LOSS, Sums, SumsLayout
from hpcnn.training.vector_model import VectorModel


class NumpyModel(VectorModel):
    """A `Network` with its parameters in one flat vector, its loss and its metrics.

    Args:
        network: the layers.
        loss: the loss, bound to the network's head.
        layout: the sums to keep, with the metrics.
        dtype: type of parameters and arithmetic.
        vector: where the parameters are to lie; left out, in memory of its own.
    """

    def __init__(
        self,
        network: Network,
        loss: BoundLoss,
        layout: SumsLayout,
        *,
        dtype: DTypeLike,
        vector: Array | None = None,
    ) -> None:
        super().__init__(
            network.layout, layout, aligned_empty(network.layout.size, dtype) if vector is None else vector
        )
        self.network, self._loss = network, loss
        self._context = Context()
        self._flush = FlushDenormals()

    def use_threads(self, threads: int) -> None:
        """Multiply large matrices on so many threads from now on. The bits stay as they are."""
        self._context = Context(matmul=matmul_on(threads))

    @np.errstate(all="ignore")  # what is not finite shows in the values
    def eval_piece(self, x: Array, y: Array) -> Sums:
        """Return the sums over one piece of samples; see `EvaluableModel`."""
        self._context.begin(training=False)
        sums = self.layout.zeros()
        with self._flush:
            logits, _ = self.network.forward(self._params, x, self._context)
            loss, outputs, _ = self._loss(logits, y, None, self._context)
            sums[COUNT], sums[LOSS] = len(x), loss
            self.layout.add_metrics(sums, outputs, y)
        return sums

    def predict_piece(self, x: Array) -> Array:
        """Return the outputs for `x`; see `EvaluableModel`."""
        self._context.begin(training=False)
        with self._flush:
            logits, _ = self.network.forward(self._params, x, self._context)
            return self.network.head_forward(logits, self._context)

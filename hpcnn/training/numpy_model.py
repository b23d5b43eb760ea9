"""The NumPy model as it stands, without training: loss and metrics of samples, predictions, weights in and out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.comm.protocol import Array
from hpcnn.denormals import FlushDenormals
from hpcnn.memory import aligned_empty
from hpcnn.nn.context import Context
from hpcnn.nn.loss import BoundLoss
from hpcnn.nn.matmul import matmul_on
from hpcnn.nn.network import Network
from hpcnn.training.penalty import penalty
from hpcnn.training.sums import COUNT, LOSS, Sums, SumsLayout


class NumpyModel:
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
        self.network, self.layout = network, layout
        self.vector = aligned_empty(network.layout.size, dtype) if vector is None else vector
        self._params = network.layout.views(self.vector)
        self._loss = loss
        self._context = Context()
        self._flush = FlushDenormals()
        self._spare = aligned_empty(max((spec.size for spec in network.layout.penalized), default=0), dtype)

    def use_threads(self, threads: int) -> None:
        """Multiply large matrices on so many threads from now on. The bits stay as they are."""
        self._context.matmul = matmul_on(threads)

    @np.errstate(all="ignore")  # what is not finite shows in the values
    def eval_piece(self, x: Array, y: Array) -> Sums:
        """Return the sums over one piece of samples; see `Replica`."""
        self._context.begin(training=False)
        sums = self.layout.zeros()
        with self._flush:
            logits, _ = self.network.forward(self._params, x, self._context)
            loss, outputs, _ = self._loss(logits, y, None, self._context)
            sums[COUNT], sums[LOSS] = len(x), loss
            self.layout.add_metrics(sums, outputs, y)
        return sums

    @np.errstate(all="ignore")
    def penalty(self) -> float:
        """Return the sum of the L1 and L2 penalties of the weights as they are."""
        return penalty(self.network.layout, self._params, self._spare)

    def predict_piece(self, x: Array) -> Array:
        """Return the outputs for `x`; see `Replica`."""
        self._context.begin(training=False)
        with self._flush:
            logits, _ = self.network.forward(self._params, x, self._context)
            return self.network.head_forward(logits, self._context)

    def weights(self) -> dict[str, Array]:
        """Return a copy of each parameter by name."""
        return self.network.layout.state_dict(self.vector)

    def load_weights(self, weights: Mapping[str, Array]) -> None:
        """Overwrite the parameters."""
        self.network.layout.load_state_dict(self.vector, weights)

    def fingerprint(self) -> str:
        """Return the SHA-256 of the weights."""
        return self.network.layout.fingerprint(self.vector)

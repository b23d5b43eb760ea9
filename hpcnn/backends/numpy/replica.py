"""The NumPy model of one rank in training: forward and backward of one shard, layer by layer."""

from __future__ import annotations

import numpy as np

from hpcnn.backends.numpy.model import NumpyModel
from hpcnn.comm.protocol import Array
from hpcnn.nn.network import Network, Written
from hpcnn.training.step_stats import COUNT, LOSS
from hpcnn.training.vector_replica import ReplicaParts, ShardBackward, Slot, VectorReplica


class NumpyReplica(VectorReplica, NumpyModel):
    """A `NumpyModel` in training, on the gradient shards of one rank.

    Args:
        network: the layers.
        parts: what it trains with.
    """

    def __init__(self, network: Network, parts: ReplicaParts) -> None:
        vector = parts.updater.store.array
        super().__init__(network, parts.loss, parts.layout, dtype=vector.dtype, vector=vector)
        self._begin_training(parts)

    def _forward(self, key: tuple[int, ...], x: Array, y: Array, stats: Array) -> ShardBackward:
        self._context.begin(training=True, random_key=key)
        logits, network_backward = self.network.forward(self._params, x, self._context)
        loss, outputs, loss_backward = self._loss(logits, y, self._weights_of(y), self._context)
        stats[COUNT], stats[LOSS] = len(x), loss
        self.layout.add_metrics(stats, outputs, y)

        def backward(slot: Slot, written: Written | None) -> None:
            network_backward(loss_backward(), slot.grads, written)

        return backward

    def _not_finite(self, key: tuple[int, ...], x: Array, y: Array) -> str | None:
        self._context.begin(training=True, random_key=key)
        name = self.network.first_not_finite(self._params, x, self._context)
        if name is not None:
            return f"the first output that is not finite is that of layer {name!r}"
        self._context.begin(training=True, random_key=key)
        logits, _ = self.network.forward(self._params, x, self._context)
        if np.isfinite(self._loss(logits, y, self._weights_of(y), self._context)[0]):
            return None
        return "all layers' outputs are finite, the loss itself is not"

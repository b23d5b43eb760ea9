"""The NumPy model of one rank in training: forward and backward of one shard, layer by layer."""

from __future__ import annotations

import numpy as np

from hpcnn.comm.protocol import Array
from hpcnn.nn.loss import BoundLoss
from hpcnn.nn.network import Network, Written
from hpcnn.training.numpy_model import NumpyModel
from hpcnn.training.sums import COUNT, LOSS, SumsLayout
from hpcnn.training.tuning import OverlapTrial
from hpcnn.training.updater import Updater
from hpcnn.training.vector_replica import ShardBackward, Slot, VectorReplica


class NumpyReplica(VectorReplica, NumpyModel):
    """A `NumpyModel` in training, on the gradient shards of one rank.

    Args:
        network: the layers.
        loss: the loss, bound to the network's head.
        layout: the sums to keep, with the metrics.
        updater: holds the parameters, and updates them with the gradients of all ranks.
        seed: the job's seed.
        trial: finds the faster way to exchange in the first steps, or None.
        class_weights: weight of each class in the training loss, shape (classes,), or None.
    """

    def __init__(
        self,
        network: Network,
        loss: BoundLoss,
        layout: SumsLayout,
        updater: Updater,
        *,
        seed: int,
        trial: OverlapTrial | None = None,
        class_weights: Array | None = None,
    ) -> None:
        vector = updater.store.array
        super().__init__(network, loss, layout, dtype=vector.dtype, vector=vector)
        self._begin_training(updater, loss, seed=seed, trial=trial, class_weights=class_weights)

    def _forward(self, key: tuple[int, ...], x: Array, y: Array, tail: Array) -> ShardBackward:
        self._context.begin(training=True, random_key=key)
        logits, network_backward = self.network.forward(self._params, x, self._context)
        loss, outputs, loss_backward = self._loss(logits, y, self._weights_of(y), self._context)
        tail[COUNT], tail[LOSS] = len(x), loss
        self.layout.add_metrics(tail, outputs, y)

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

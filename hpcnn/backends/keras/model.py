"""The Keras model as it stands, without training: loss and metrics of samples, predictions, weights in and out."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from hpcnn.backends.keras.graphs import trace
from hpcnn.backends.keras.losses import sample_losses, sum_of
from hpcnn.backends.keras.network import KerasNetwork
from hpcnn.backends.keras.tensors import can_share, to_array, to_tensor
from hpcnn.comm.protocol import Array
from hpcnn.nn.loss import BoundLoss
from hpcnn.system.denormals import FlushDenormals
from hpcnn.system.memory import aligned_empty
from hpcnn.training.step_stats import COUNT, LOSS, Sums, SumsLayout
from hpcnn.training.vector_model import VectorModel


class KerasModel(VectorModel):
    """A `KerasNetwork` with its parameters in one flat vector, its loss and its metrics.

    Args:
        network: the Keras model.
        loss: the loss, bound to the network's head.
        layout: the sums to keep, with the metrics.
        vector: where the parameters are to lie; left out, in memory of its own.
    """

    def __init__(
        self, network: KerasNetwork, loss: BoundLoss, layout: SumsLayout, *, vector: Array | None = None
    ) -> None:
        vector = aligned_empty(network.layout.size, network.dtype) if vector is None else vector
        super().__init__(network.layout, layout, vector)
        self.network, self._loss = network, loss
        self._flush = FlushDenormals()
        self._tensor = to_tensor(vector) if can_share(vector) else None
        """The parameters as TensorFlow sees them: the same memory, so that an update needs no copy."""

    def use_threads(self, threads: int) -> None:
        """Do nothing: TensorFlow's bits depend on its threads, so each rank has one."""

    @np.errstate(all="ignore")  # what is not finite shows in the values
    def eval_piece(self, x: Array, y: Array) -> Sums:
        """Return the sums over one piece of samples; see `EvaluableModel`."""
        sums = self.layout.zeros()
        with self._flush:
            loss, outputs = self._evaluate(self._vector(), self._inputs(x), self._targets(y))
            sums[COUNT], sums[LOSS] = len(x), float(loss)
            self.layout.add_metrics(sums, to_array(outputs), y)
        return sums

    def predict_piece(self, x: Array) -> Array:
        """Return the outputs for `x`; see `EvaluableModel`."""
        with self._flush:
            return to_array(self._predict(self._vector(), self._inputs(x)))

    # ----------------------------------------------------------------------------------------------- in and out of TF

    def _vector(self) -> Any:
        return to_tensor(self.vector) if self._tensor is None else self._tensor

    def _inputs(self, x: Array) -> Any:
        return to_tensor(np.ascontiguousarray(x.reshape(len(x), *self.network.input_shape), self.network.dtype))

    def _targets(self, y: Array) -> Any:
        dtype = np.int64 if self._loss.target_kind == "labels" else self.network.dtype
        return to_tensor(np.ascontiguousarray(y, dtype))

    # -------------------------------------------------------------------------------------------------------- graphs

    @cached_property
    def _predict(self) -> Any:
        def predict(vector: Any, x: Any) -> Any:
            return self.network.call(vector, x, training=False).outputs

        return trace(predict, self._specs()[:2])

    @cached_property
    def _evaluate(self) -> Any:
        def evaluate(vector: Any, x: Any, y: Any) -> Any:
            outputs = self.network.call(vector, x, training=False).outputs
            return sum_of(sample_losses(self._loss.loss, outputs, y)), outputs

        return trace(evaluate, self._specs())

    def _specs(self) -> list[Any]:
        """Return the types and shapes of the parameters, inputs and targets."""
        import tensorflow as tf

        network, labels = self.network, self._loss.target_kind == "labels"
        return [
            tf.TensorSpec([network.layout.size], network.dtype),
            tf.TensorSpec([None, *network.input_shape], network.dtype),
            tf.TensorSpec([None, *network.output_shape[:-1]], tf.int64)
            if labels
            else tf.TensorSpec([None, *network.output_shape], network.dtype),
        ]

"""A gradient tape that reduces gradients over all ranks, for custom training loops."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any

from hpcnn.comm.tensors.call_matching import ReduceOp
from hpcnn.comm.tensors.compression import Compressor
from hpcnn.comm.tensors.process_sets import ProcessSet, global_process_set
from hpcnn.comm.tensors.reductions import Reduction
from hpcnn.keras.bridge import make_variables_callable
from hpcnn.keras.compression import Compression
from hpcnn.keras.gradients import GradientReducer
from hpcnn.keras.optimizer import LocalVariables, as_list


class DistributedGradientTape:
    """A `tf.GradientTape` that averages gradients over all ranks.

    Args:
        gradtape: the tape, before or after it has recorded.
        compression: the type in which gradients are sent and added.
        sparse_as_dense: gradients of embeddings are sent as dense arrays, not as the rows in use.
        op: Average or Sum.
        gradient_predivide_factor: gradients are divided by it before they are added, and multiplied after.
        process_set: the ranks that train together.
        scale_local_gradients: see `PartialDistributedOptimizer`.

    `device_dense`, `device_sparse`, `num_groups` and `groups` have no effect.
    """

    def __init__(
        self,
        gradtape: Any,
        device_dense: str = "",
        device_sparse: str = "",
        compression: Compressor = Compression.none,
        sparse_as_dense: bool = False,
        op: ReduceOp = ReduceOp.AVERAGE,
        gradient_predivide_factor: float = 1.0,
        num_groups: int = 0,
        groups: Any = None,
        process_set: ProcessSet = global_process_set,
        scale_local_gradients: bool = True,
    ) -> None:
        make_variables_callable()
        self._tape = gradtape
        self._reducer = GradientReducer(
            Reduction(op, compression, process_set, gradient_predivide_factor, sparse_as_dense=sparse_as_dense)
        )
        self._local = LocalVariables(1 / process_set.size() if scale_local_gradients else 1.0)

    def gradient(self, target: Any, sources: Any, output_gradients: Any = None, **options: Any) -> Any:
        """Return the gradients of `target` with respect to `sources`, over all ranks, in the structure of `sources`."""
        import tensorflow as tf

        gradients = self._tape.gradient(target, sources, output_gradients, **options)
        variables = tf.nest.flatten(sources)
        own = tf.nest.flatten(gradients)
        reduced = self._reducer.reduce(self._local.without(own, variables))
        return tf.nest.pack_sequence_as(gradients, self._local.merge(own, reduced, variables))

    def register_local_source(self, source: Any) -> None:
        """Keep the gradient of a variable local to its rank."""
        self._local.add(source)

    def register_local_sources(self, sources: Sequence[Any]) -> None:
        """Keep the gradients of some variables local to their rank."""
        for source in sources:
            self._local.add(source)

    def __enter__(self) -> DistributedGradientTape:
        self._tape.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tape.__exit__(kind, error, trace)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tape, name)


def PartialDistributedGradientTape(gradtape: Any, *settings: Any, local_layers: Any = None, **options: Any) -> Any:  # noqa: N802
    """Return a `DistributedGradientTape` that keeps the gradients of some layers local to their rank."""
    tape = DistributedGradientTape(gradtape, *settings, **options)
    for layer in as_list(local_layers):
        tape.register_local_sources(layer.trainable_variables)
    return tape

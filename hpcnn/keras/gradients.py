"""The reduction of gradients over all ranks, shared by the optimizer and the tape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hpcnn.comm.protocol import Array
from hpcnn.comm.tensors.call_matching import ReduceOp
from hpcnn.comm.tensors.reductions import Reduction
from hpcnn.keras.numpy_calls import backend, call_numpy, type_of

Tensors = Sequence[Any]


class GradientReducer:
    """Reduces gradients over all ranks."""

    def __init__(self, reduction: Reduction) -> None:
        self.reduction = reduction.check()
        self._sums: list[Array] = []
        self._passes = 0

    @property
    def exchanges(self) -> bool:
        """Whether gradients leave the graph: unchanged gradients of a single rank need not."""
        how = self.reduction
        return how.process_set.size() > 1 or how.passes > 1 or how.compression.name is not None

    def reduce(self, gradients: Tensors) -> list[Any]:
        """Return the gradients over all ranks. None stays None."""
        if not self.exchanges:
            return list(gradients)
        dense = [_dense(g) for g in gradients if g is not None and not self._is_sent_sparse(g)]
        results = iter(self._call_numpy(self._reduce, dense))
        return [
            None if g is None else self._reduce_sparse(g) if self._is_sent_sparse(g) else next(results)
            for g in gradients
        ]

    def accumulate(self, gradients: Tensors) -> tuple[Any, list[Any]]:
        """Accumulate gradients; return whether this was the last pass of a step, and then the reduced gradients."""
        dense = [_dense(g) for g in gradients if g is not None]

        def add(arrays: Sequence[Array]) -> list[Array]:
            done, results = self._accumulate(arrays)
            return [np.array(done), *results]

        specs = [((), np.dtype(bool)), *[(tuple(g.shape), type_of(g)) for g in dense]]
        done, *reduced = call_numpy(add, dense, specs)
        results = iter(reduced)
        return done, [None if g is None else next(results) for g in gradients]

    def _accumulate(self, arrays: Sequence[Array]) -> tuple[bool, list[Array]]:
        if self._passes == 0:
            self._sums = [array.copy() for array in arrays]
        else:
            for total, array in zip(self._sums, arrays, strict=True):
                np.add(total, array, out=total)
        self._passes += 1
        if self._passes < self.reduction.passes:
            return False, [np.zeros_like(array) for array in arrays]
        self._passes = 0
        return True, self._reduce(self._sums, 1 / self.reduction.passes if self.reduction.average_passes else 1.0)

    def _reduce(self, arrays: Sequence[Array], scale: float = 1.0) -> list[Array]:
        how = self.reduction
        return how.process_set.group.allreduce(
            arrays, how.op, prescale=scale / how.predivide, postscale=how.predivide, wire=how.compression.wire
        )

    def _call_numpy(self, function: Callable[[Sequence[Array]], list[Array]], tensors: Tensors) -> list[Any]:
        if not tensors:
            return []
        return call_numpy(function, tensors, [(tuple(tensor.shape), type_of(tensor)) for tensor in tensors])

    def _is_sent_sparse(self, gradient: Any) -> bool:
        return _is_sparse(gradient) and not self.reduction.sparse_as_dense

    def _reduce_sparse(self, gradient: Any) -> Any:
        """Return the rows that any rank has, reduced."""
        import tensorflow as tf

        rows, indices = call_numpy(
            lambda arrays: self._gather_rows(*arrays),
            [gradient.values, gradient.indices],
            [((None, *gradient.values.shape[1:]), type_of(gradient.values)), ((None,), type_of(gradient.indices))],
        )
        return tf.IndexedSlices(rows, indices, gradient.dense_shape)

    def _gather_rows(self, values: Array, indices: Array) -> list[Array]:
        """Return the sum or mean over the ranks of the rows with each index, and the unique indices."""
        how = self.reduction
        values, indices = how.process_set.group.allgather(values), how.process_set.group.allgather(indices)
        unique, places = np.unique(indices, return_inverse=True)
        rows = np.zeros((len(unique), *values.shape[1:]), values.dtype)
        np.add.at(rows, places, values)
        return [rows / how.process_set.size() if how.op is ReduceOp.AVERAGE else rows, unique]


def _is_sparse(gradient: Any) -> bool:
    return type(gradient).__name__ == "IndexedSlices"


def _dense(gradient: Any) -> Any:
    if not _is_sparse(gradient):
        return gradient
    import tensorflow as tf

    return tf.convert_to_tensor(gradient)


def with_gradient(
    forward: Callable[[Tensors], list[Any]], backward: Callable[[Tensors], list[Any]] | None, tensors: Tensors
) -> list[Any]:
    """Return ``forward(tensors)``, whose derivative in TensorFlow's tapes is `backward`."""
    if backward is None or backend() != "tensorflow":
        return forward(tensors)
    import tensorflow as tf

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def differentiable(*inputs: Any) -> tuple[list[Any], Callable[..., list[Any]]]:
        return forward(inputs), lambda *upstream: backward(upstream)

    return list(differentiable(*[tf.convert_to_tensor(tensor) for tensor in tensors]))

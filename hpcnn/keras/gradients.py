"""The gradients of all ranks made one: what the optimizer and the tape have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcnn.comm.protocol import Array
from hpcnn.comm.tensors.call_matching import ReduceOp
from hpcnn.errors import CommunicatorError
from hpcnn.keras.compression import Compressor, check_compression
from hpcnn.keras.host import backend, on_host, type_of
from hpcnn.keras.process_sets import ProcessSet

Tensors = Sequence[Any]


@dataclass(frozen=True)
class Reduction:
    """How gradients become one."""

    op: ReduceOp
    compression: Compressor
    process_set: ProcessSet
    predivide: float = 1.0
    """Gradients are divided by it before they are added, and multiplied after."""
    passes: int = 1
    """How many backward passes a rank adds up before they are exchanged."""
    average_passes: bool = False
    """Whether those are averaged, not added."""
    sparse_as_dense: bool = False

    def check(self) -> Reduction:
        """Return this, if it can be done.

        Raises:
            CommunicatorError: it can't.
        """
        check_compression(self.compression)
        if self.op not in (ReduceOp.AVERAGE, ReduceOp.SUM):
            raise CommunicatorError(f"op={self.op}: gradients are reduced by Average or Sum")
        if self.predivide != 1 and (self.op is not ReduceOp.AVERAGE or not self.predivide > 0):
            raise CommunicatorError(
                f"gradient_predivide_factor={self.predivide} with op={self.op}: it must be positive, and goes "
                "with Average"
            )
        if self.passes < 1:
            raise CommunicatorError(f"backward_passes_per_step={self.passes} must be 1 or more")
        return self


class GradientReducer:
    """Makes the gradients of all ranks one."""

    def __init__(self, reduction: Reduction) -> None:
        self.reduction = reduction.check()
        self._sums: list[Array] = []
        self._passes = 0

    @property
    def exchanges(self) -> bool:
        """Whether gradients leave the graph: those of one rank, as they are, need not."""
        how = self.reduction
        return how.process_set.size() > 1 or how.passes > 1 or how.compression.name is not None

    def reduce(self, gradients: Tensors) -> list[Any]:
        """Return the gradients over all ranks. None stays None."""
        if not self.exchanges:
            return list(gradients)
        dense = [_dense(g) for g in gradients if g is not None and not self._travels_sparse(g)]
        results = iter(self._on_host(self._reduce, dense))
        return [
            None if g is None else self._reduce_sparse(g) if self._travels_sparse(g) else next(results)
            for g in gradients
        ]

    def accumulate(self, gradients: Tensors) -> tuple[Any, list[Any]]:
        """Add up gradients; return whether that was the last pass of a step, and if so those over all ranks."""
        dense = [_dense(g) for g in gradients if g is not None]

        def add(arrays: Sequence[Array]) -> list[Array]:
            done, results = self._accumulate(arrays)
            return [np.array(done), *results]

        forms = [((), np.dtype(bool)), *[(tuple(g.shape), type_of(g)) for g in dense]]
        done, *reduced = on_host(add, dense, forms)
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

    def _on_host(self, function: Callable[[Sequence[Array]], list[Array]], tensors: Tensors) -> list[Any]:
        if not tensors:
            return []
        return on_host(function, tensors, [(tuple(tensor.shape), type_of(tensor)) for tensor in tensors])

    def _travels_sparse(self, gradient: Any) -> bool:
        return _is_sparse(gradient) and not self.reduction.sparse_as_dense

    def _reduce_sparse(self, gradient: Any) -> Any:
        """Return the rows that any rank has."""
        import tensorflow as tf

        rows, indices = on_host(
            lambda arrays: self._gather_rows(*arrays),
            [gradient.values, gradient.indices],
            [((None, *gradient.values.shape[1:]), type_of(gradient.values)), ((None,), type_of(gradient.indices))],
        )
        return tf.IndexedSlices(rows, indices, gradient.dense_shape)

    def _gather_rows(self, values: Array, indices: Array) -> list[Array]:
        """Return the sum or mean of the ranks' rows of each index, and these indices, each once."""
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
    """Return ``forward(tensors)``, of which TensorFlow's tapes take `backward` for the derivative."""
    if backward is None or backend() != "tensorflow":
        return forward(tensors)
    import tensorflow as tf

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def differentiable(*inputs: Any) -> tuple[list[Any], Callable[..., list[Any]]]:
        return forward(inputs), lambda *upstream: backward(upstream)

    return list(differentiable(*[tf.convert_to_tensor(tensor) for tensor in tensors]))

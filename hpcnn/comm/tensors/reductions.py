"""The reductions that users choose from, and how gradients are reduced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hpcnn.comm.tensors.call_matching import ReduceOp
from hpcnn.comm.tensors.compression import Compressor, check_compression
from hpcnn.comm.tensors.process_sets import ProcessSet
from hpcnn.errors import CommunicatorError

Average, Sum, Min, Max, Product = ReduceOp.AVERAGE, ReduceOp.SUM, ReduceOp.MIN, ReduceOp.MAX, ReduceOp.PRODUCT
SUMS = (ReduceOp.SUM, ReduceOp.AVERAGE)


def chosen_op(op: Any, average: bool | None = None) -> ReduceOp:
    """Return the reduction that `op`, or the older `average`, selects."""
    if op is not None and average is not None:
        raise CommunicatorError(f"op={op} and average={average}: give only op")
    if op is None:
        return ReduceOp.SUM if average is False else ReduceOp.AVERAGE
    if not isinstance(op, ReduceOp):
        raise CommunicatorError(f"op={op!r} is not one of Average, Sum, Min, Max and Product")
    return op


def root_within(process_set: ProcessSet, root_rank: int) -> int:
    """Return the number of a rank within a process set."""
    if root_rank not in process_set.ranks:
        raise CommunicatorError(f"root_rank {root_rank} is not one of the ranks {process_set.ranks}")
    return process_set.ranks.index(root_rank)


@dataclass(frozen=True)
class Reduction:
    """How gradients are reduced."""

    op: ReduceOp
    compression: Compressor
    process_set: ProcessSet
    predivide: float = 1.0
    """Gradients are divided by it before the sum, and multiplied by it after."""
    passes: int = 1
    """The number of backward passes that a rank accumulates before the exchange."""
    average_passes: bool = False
    """Whether accumulated passes are averaged."""
    sparse_as_dense: bool = False

    def check(self) -> Reduction:
        """Return this reduction.

        Raises:
            CommunicatorError: its settings are invalid.
        """
        check_compression(self.compression)
        if self.op not in SUMS:
            raise CommunicatorError(f"op={self.op}: gradients are reduced by Average or Sum")
        if self.predivide != 1 and (self.op is not ReduceOp.AVERAGE or not self.predivide > 0):
            raise CommunicatorError(
                f"gradient_predivide_factor={self.predivide} with op={self.op}: it must be positive, and "
                "op must be Average"
            )
        if self.passes < 1:
            raise CommunicatorError(f"backward_passes_per_step={self.passes} must be 1 or more")
        return self

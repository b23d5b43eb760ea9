"""The derivatives of collective calls, on arrays: those of Horovod 0.28.1."""

from __future__ import annotations

import numpy as np

from hpcnn.comm.protocol import Array
from hpcnn.comm.tensors.call_matching import ReduceOp
from hpcnn.comm.tensors.tensor_group import TensorGroup


def of_allgather(group: TensorGroup, upstream: Array, own: Array) -> Array:
    """Return the derivative with respect to `own`: the mean over ranks of the rows that came from this one."""
    (whole,) = group.allreduce([upstream], ReduceOp.AVERAGE)
    counts = group.allgather_object(len(np.atleast_1d(own)))
    first = sum(counts[: group.comm.rank])
    rows: Array = whole[first : first + counts[group.comm.rank]].reshape(own.shape)
    return rows


def of_broadcast(group: TensorGroup, upstream: Array, root: int) -> Array:
    """Return the mean over ranks on `root`, zeros elsewhere."""
    (mean,) = group.allreduce([upstream], ReduceOp.AVERAGE)
    return mean if group.comm.rank == root else np.zeros_like(mean)


def of_reducescatter(group: TensorGroup, upstream: Array, op: ReduceOp) -> Array:
    """Return the derivative with respect to the whole array."""
    factor = group.comm.size if op is ReduceOp.SUM else 1
    whole: Array = group.allgather(upstream) * upstream.dtype.type(factor)
    return whole

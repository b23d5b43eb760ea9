"""Collective calls on tensors, which derivatives pass through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from hpcnn.comm.protocol import Array
from hpcnn.comm.tensors import derivatives
from hpcnn.comm.tensors.call_matching import ReduceOp
from hpcnn.comm.tensors.compression import check_compression
from hpcnn.comm.tensors.process_sets import ProcessSet, global_process_set
from hpcnn.comm.tensors.reductions import SUMS, chosen_op, root_within
from hpcnn.comm.tensors.world import world
from hpcnn.torch.compression import Compression, TensorCompressor
from hpcnn.torch.pending import settle
from hpcnn.torch.tensors import array_of, as_tensor, tensor_of

Tensor = torch.Tensor
OfArrays = Callable[[Sequence[Array]], Sequence[Array]]


class _Collective(torch.autograd.Function):
    """A call on the arrays of tensors, and the call on the arrays of the upstream derivatives."""

    @staticmethod
    def forward(ctx: Any, call: OfArrays, back: OfArrays, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.back, ctx.like = back, tensors
        return tuple(_on(tensors, call))

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Any, ...]:
        return (None, None, *_on(upstream, ctx.back))


def _on(tensors: Sequence[Tensor], call: OfArrays) -> list[Tensor]:
    settle()
    device = tensors[0].device if tensors else None
    results = [tensor_of(array, device) for array in call([array_of(tensor) for tensor in tensors])]
    return [
        result.to(torch.bfloat16) if tensor.dtype == torch.bfloat16 else result
        for tensor, result in zip(tensors, results, strict=True)
    ]


def _call(tensors: Sequence[Tensor], call: OfArrays, back: OfArrays | None) -> list[Tensor]:
    if back is None or not torch.is_grad_enabled() or not any(tensor.requires_grad for tensor in tensors):
        return _on(tensors, call)
    return list(_Collective.apply(call, back, *tensors))  # type: ignore[no-untyped-call]


def allreduce(
    tensor: Any,
    average: bool | None = None,
    name: str | None = None,
    compression: TensorCompressor = Compression.none,
    op: ReduceOp | None = None,
    prescale_factor: float = 1.0,
    postscale_factor: float = 1.0,
    process_set: ProcessSet = global_process_set,
) -> Tensor:
    """Return the mean of every rank's `tensor`, or the reduction `op`; the same bits on all ranks.

    Args:
        tensor: a tensor, an array or a number; of the same shape and type on all ranks.
        average: the older form of `op`; false selects `Sum`.
        name: has no effect: calls are matched by their order.
        compression: the type that numbers are rounded to before they are sent.
        op: Average, Sum, Min, Max or Product.
        prescale_factor: multiplies each rank's tensor before the reduction.
        postscale_factor: multiplies the result.
        process_set: the ranks that call this.
    """
    return grouped_allreduce([tensor], average, name, compression, op, prescale_factor, postscale_factor, process_set)[
        0
    ]


def grouped_allreduce(
    tensors: Sequence[Any],
    average: bool | None = None,
    name: str | None = None,
    compression: TensorCompressor = Compression.none,
    op: ReduceOp | None = None,
    prescale_factor: float = 1.0,
    postscale_factor: float = 1.0,
    process_set: ProcessSet = global_process_set,
) -> list[Tensor]:
    """Return `allreduce` of each of several tensors, in one message per type."""
    chosen, group = chosen_op(op, average), process_set.group
    check_compression(compression)

    def reduce(arrays: Sequence[Array]) -> list[Array]:
        return group.allreduce(arrays, chosen, prescale=prescale_factor, postscale=postscale_factor)

    given = [compression.compress(as_tensor(tensor)) for tensor in tensors]
    # The derivative of a sum with respect to one rank's part comes from every rank.
    results = _call([tensor for tensor, _ in given], reduce, reduce if chosen in SUMS else None)
    return [compression.decompress(result, before) for result, (_, before) in zip(results, given, strict=True)]


def allreduce_(
    tensor: Tensor,
    average: bool | None = None,
    name: str | None = None,
    op: ReduceOp | None = None,
    prescale_factor: float = 1.0,
    postscale_factor: float = 1.0,
    process_set: ProcessSet = global_process_set,
) -> Tensor:
    """Overwrite `tensor` with what `allreduce` gives, and return it."""
    return grouped_allreduce_([tensor], average, name, op, prescale_factor, postscale_factor, process_set)[0]


def grouped_allreduce_(
    tensors: Sequence[Tensor],
    average: bool | None = None,
    name: str | None = None,
    op: ReduceOp | None = None,
    prescale_factor: float = 1.0,
    postscale_factor: float = 1.0,
    process_set: ProcessSet = global_process_set,
) -> list[Tensor]:
    """Overwrite tensors with what `grouped_allreduce` gives, and return them."""
    with torch.no_grad():
        results = grouped_allreduce(
            tensors, average, name, Compression.none, op, prescale_factor, postscale_factor, process_set
        )
        return overwrite(tensors, results)


def overwrite(tensors: Sequence[Tensor], results: Sequence[Tensor]) -> list[Tensor]:
    """Copy each result into its tensor, and return the tensors."""
    with torch.no_grad():
        for tensor, result in zip(tensors, results, strict=True):
            tensor.copy_(result)
    return list(tensors)


def allgather(tensor: Any, name: str | None = None, process_set: ProcessSet = global_process_set) -> Tensor:
    """Concatenate every rank's `tensor` along the first axis; the other axes must agree."""
    group, given = process_set.group, as_tensor(tensor)
    own = array_of(given)
    return _call(
        [given],
        lambda arrays: [group.allgather(arrays[0])],
        lambda upstream: [derivatives.of_allgather(group, upstream[0], own)],
    )[0]


def grouped_allgather(
    tensors: Sequence[Any], name: str | None = None, process_set: ProcessSet = global_process_set
) -> list[Tensor]:
    """Return `allgather` of each of several tensors."""
    return [allgather(tensor, name, process_set) for tensor in tensors]


def broadcast(
    tensor: Any, root_rank: int, name: str | None = None, process_set: ProcessSet = global_process_set
) -> Tensor:
    """Return the `tensor` of rank `root_rank`; its shape and type must be the same on all ranks."""
    group, root = process_set.group, root_within(process_set, root_rank)
    return _call(
        [as_tensor(tensor)],
        lambda arrays: group.broadcast(arrays, root),
        lambda upstream: [derivatives.of_broadcast(group, upstream[0], root)],
    )[0]


def broadcast_(
    tensor: Tensor, root_rank: int, name: str | None = None, process_set: ProcessSet = global_process_set
) -> Tensor:
    """Overwrite `tensor` with that of rank `root_rank`, and return it."""
    with torch.no_grad():
        return overwrite([tensor], [broadcast(tensor, root_rank, name, process_set)])[0]


def alltoall(
    tensor: Any, splits: Any = None, name: str | None = None, process_set: ProcessSet = global_process_set
) -> Any:
    """Send the next ``splits[r]`` rows to each rank r, and return the rows received, by rank.

    With splits, also return how many rows came from each rank; without, each rank gets the same number.
    """
    group = process_set.group
    rows = None if splits is None else as_tensor(splits).tolist()
    came: list[int] = []

    def exchange(arrays: Sequence[Array]) -> list[Array]:
        received, counts = group.alltoall(arrays[0], rows)
        came[:] = counts
        return [received]

    (received,) = _call([as_tensor(tensor)], exchange, lambda upstream: [group.alltoall(upstream[0], came)[0]])
    return received if splits is None else (received, torch.tensor(came, dtype=torch.int32))


def reducescatter(
    tensor: Any,
    name: str | None = None,
    compression: TensorCompressor = Compression.none,
    op: ReduceOp | None = None,
    process_set: ProcessSet = global_process_set,
    prescale_factor: float = 1.0,
    postscale_factor: float = 1.0,
) -> Tensor:
    """Return this rank's share of the rows of what `allreduce` gives."""
    group, chosen = process_set.group, chosen_op(op)
    factor = prescale_factor * postscale_factor
    check_compression(compression)
    (rows,) = _call(
        [as_tensor(tensor)],
        lambda arrays: group.reducescatter(arrays, chosen),
        (lambda upstream: [derivatives.of_reducescatter(group, upstream[0], chosen)]) if chosen in SUMS else None,
    )
    return rows if factor == 1 else rows * factor


def grouped_reducescatter(tensors: Sequence[Any], *settings: Any, **options: Any) -> list[Tensor]:
    """Return `reducescatter` of each of several tensors."""
    return [reducescatter(tensor, *settings, **options) for tensor in tensors]


def broadcast_object(
    obj: Any, root_rank: int = 0, name: str | None = None, process_set: ProcessSet = global_process_set
) -> Any:
    """Return the object of rank `root_rank`, which must be picklable."""
    settle()
    return process_set.group.broadcast_object(obj, root_within(process_set, root_rank))


def allgather_object(obj: Any, name: str | None = None, process_set: ProcessSet = global_process_set) -> list[Any]:
    """Return every rank's object, by rank."""
    settle()
    return process_set.group.allgather_object(obj)


def barrier(process_set: ProcessSet = global_process_set) -> None:
    """Return once every rank has come here."""
    settle()
    process_set.group.agree_on("barrier")


def join(device: int = -1) -> int:
    """Contribute zeros to the sums and means of the other ranks until all have joined.

    For a rank that has no data left while others do. Returns the last rank to join.
    """
    settle()
    return world().group.join()

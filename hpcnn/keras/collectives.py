"""Collective calls on tensors, eagerly or within graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hpcnn.comm.tensors import derivatives
from hpcnn.comm.tensors.call_matching import ReduceOp
from hpcnn.comm.tensors.compression import Compressor, check_compression
from hpcnn.comm.tensors.process_sets import ProcessSet, global_process_set
from hpcnn.comm.tensors.reductions import SUMS, chosen_op, root_within
from hpcnn.comm.tensors.world import world
from hpcnn.keras.compression import Compression
from hpcnn.keras.gradients import with_gradient
from hpcnn.keras.numpy_calls import call_numpy, type_of


def allreduce(
    tensor: Any,
    name: str | bool | None = None,
    average: bool | None = None,
    prescale_factor: float = 1.0,
    postscale_factor: float = 1.0,
    op: ReduceOp | None = None,
    compression: Compressor = Compression.none,
    process_set: ProcessSet = global_process_set,
    **_unused: Any,
) -> Any:
    """Return the mean of every rank's `tensor`, or the reduction `op`; the same bits on all ranks.

    Args:
        tensor: a tensor, a variable, an array or a number; of the same shape and type on all ranks.
        name: has no effect; a Boolean is taken as `average`, which has this position in `horovod.tensorflow`.
        average: the older form of `op`; false selects `Sum`.
        prescale_factor: multiplies each rank's tensor before the reduction.
        postscale_factor: multiplies the result.
        op: Average, Sum, Min, Max or Product.
        compression: the type in which numbers are sent and added.
        process_set: the ranks that call this.
    """
    return grouped_allreduce(
        [tensor],
        average=name if isinstance(name, bool) else average,
        prescale_factor=prescale_factor,
        postscale_factor=postscale_factor,
        op=op,
        compression=compression,
        process_set=process_set,
    )[0]


def grouped_allreduce(
    tensors: Sequence[Any],
    name: str | None = None,
    average: bool | None = None,
    prescale_factor: float = 1.0,
    postscale_factor: float = 1.0,
    op: ReduceOp | None = None,
    compression: Compressor = Compression.none,
    process_set: ProcessSet = global_process_set,
    **_unused: Any,
) -> list[Any]:
    """Return `allreduce` of each of several tensors, in one message per type."""
    chosen, wire, group = chosen_op(op, average), check_compression(compression).wire, process_set.group
    given = [as_tensor(tensor) for tensor in tensors]

    def reduce(tensors: Sequence[Any]) -> list[Any]:
        return call_numpy(
            lambda arrays: group.allreduce(
                arrays, chosen, prescale=prescale_factor, postscale=postscale_factor, wire=wire
            ),
            tensors,
            [(tuple(tensor.shape), type_of(tensor)) for tensor in tensors],
        )

    # The derivative of a sum with respect to one rank's part comes from every rank.
    return with_gradient(reduce, reduce if chosen in SUMS else None, given)


def allgather(tensor: Any, name: str | None = None, process_set: ProcessSet = global_process_set) -> Any:
    """Concatenate every rank's `tensor` along the first axis; the other axes must agree."""
    group = process_set.group
    given = as_tensor(tensor)
    shape = (None, *tuple(given.shape)[1:])

    return with_gradient(
        lambda tensors: call_numpy(lambda arrays: [group.allgather(arrays[0])], tensors, [(shape, type_of(given))]),
        lambda upstream: call_numpy(
            lambda arrays: [derivatives.of_allgather(group, arrays[0], arrays[1])],
            [*upstream, given],
            [(tuple(given.shape), type_of(given))],
        ),
        [given],
    )[0]


def broadcast(
    tensor: Any, root_rank: int = 0, name: str | None = None, process_set: ProcessSet = global_process_set
) -> Any:
    """Return the `tensor` of rank `root_rank`; its shape and type must be the same on all ranks."""
    group, root = process_set.group, root_within(process_set, root_rank)
    given = as_tensor(tensor)
    spec = [(tuple(given.shape), type_of(given))]

    return with_gradient(
        lambda tensors: call_numpy(lambda arrays: group.broadcast(arrays, root), tensors, spec),
        lambda upstream: call_numpy(lambda arrays: [derivatives.of_broadcast(group, arrays[0], root)], upstream, spec),
        [given],
    )[0]


def alltoall(
    tensor: Any, splits: Any = None, name: str | None = None, process_set: ProcessSet = global_process_set
) -> Any:
    """Send the next ``splits[r]`` rows to each rank r, and return the rows received, by rank.

    With splits, also return how many rows came from each rank; without, each rank gets the same number.
    """
    group = process_set.group
    given = as_tensor(tensor)
    sent = [] if splits is None else [as_tensor(splits)]
    rows = ((None, *tuple(given.shape)[1:]), type_of(given))
    counts_spec = ((process_set.size(),), np.dtype(np.int32))

    def exchange(arrays: Sequence[Any]) -> list[Any]:
        received, counts = group.alltoall(arrays[0], arrays[1].tolist() if len(arrays) > 1 else None)
        return [received, np.array(counts, np.int32)]

    def send_back(arrays: Sequence[Any]) -> list[Any]:
        return [group.alltoall(arrays[0], arrays[1].tolist())[0]]

    came: list[Any] = []

    def forward(tensors: Sequence[Any]) -> list[Any]:
        received, counts = call_numpy(exchange, [*tensors, *sent], [rows, counts_spec])
        came[:] = [counts]
        return [received]

    def backward(upstream: Sequence[Any]) -> list[Any]:
        return call_numpy(send_back, [*upstream, *came], [(tuple(given.shape), type_of(given))])

    (received,) = with_gradient(forward, backward, [given])
    return received if splits is None else (received, came[0])


def reducescatter(
    tensor: Any,
    op: ReduceOp | None = None,
    name: str | None = None,
    process_set: ProcessSet = global_process_set,
    **_unused: Any,
) -> Any:
    """Return this rank's share of the rows of what `allreduce` gives."""
    group, chosen = process_set.group, chosen_op(op)
    given = as_tensor(tensor)
    rows = ((None, *tuple(given.shape)[1:]), type_of(given))

    def of_all(arrays: Sequence[Any]) -> list[Any]:
        return [derivatives.of_reducescatter(group, arrays[0], chosen)]

    return with_gradient(
        lambda tensors: call_numpy(lambda arrays: group.reducescatter(arrays, chosen), tensors, [rows]),
        (lambda upstream: call_numpy(of_all, upstream, [(tuple(given.shape), type_of(given))]))
        if chosen in SUMS
        else None,
        [given],
    )[0]


def broadcast_object(
    obj: Any,
    root_rank: int = 0,
    session: Any = None,
    name: str | None = None,
    process_set: ProcessSet = global_process_set,
) -> Any:
    """Return the object of rank `root_rank`, which must be picklable."""
    return process_set.group.broadcast_object(obj, root_within(process_set, root_rank))


def allgather_object(
    obj: Any, session: Any = None, name: str | None = None, process_set: ProcessSet = global_process_set
) -> list[Any]:
    """Return every rank's object, by rank."""
    return process_set.group.allgather_object(obj)


def barrier(process_set: ProcessSet = global_process_set) -> None:
    """Return once every rank has come here."""
    process_set.group.agree_on("barrier")


def join() -> int:
    """Contribute zeros to the sums and means of the other ranks until all have joined.

    For a rank that has no data left while others do. Returns the last rank to join.
    """
    return world().group.join()


def as_tensor(value: Any) -> Any:
    """Return a number, an array, a variable or a tensor as a tensor or an array."""
    import keras

    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, float | int | bool | list | tuple | np.generic):
        array = np.asarray(value)
        return array.astype(np.float32) if array.dtype == np.float64 and not isinstance(value, np.generic) else array
    return keras.ops.convert_to_tensor(value)

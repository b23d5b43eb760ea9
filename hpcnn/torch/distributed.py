"""What DDP scripts use of ``torch.distributed``, over MPI: ``import hpcnn.torch.distributed as dist``."""

from __future__ import annotations

from typing import Any

import torch

from hpcnn.comm.tensors.process_sets import ProcessSet, global_process_set
from hpcnn.comm.tensors.reductions import Average, Max, Min, Product, Sum
from hpcnn.comm.tensors.start import init
from hpcnn.comm.tensors.unsupported import unsupported_name
from hpcnn.comm.tensors.world import connect_ranks, is_initialized, shutdown
from hpcnn.torch import collectives
from hpcnn.torch.broadcasts import broadcast_tensors

__all__ = [
    "ReduceOp",
    "all_gather_object",
    "all_reduce",
    "barrier",
    "broadcast",
    "broadcast_object_list",
    "destroy_process_group",
    "get_rank",
    "get_world_size",
    "init_process_group",
    "is_available",
    "is_initialized",
]


class ReduceOp:
    """The reductions, by PyTorch's names."""

    SUM, AVG, MIN, MAX, PRODUCT = Sum, Average, Min, Max, Product


def is_available() -> bool:
    """Return true."""
    return True


def init_process_group(*_unused: Any, **_options: Any) -> None:
    """Connect this process with the other ranks that mpirun or srun started. Arguments have no effect."""
    init()


def _of(group: Any) -> ProcessSet:
    """Return a group, or all ranks, connected: a script may leave out `init_process_group`."""
    connect_ranks()
    return global_process_set if group is None else group


def destroy_process_group(group: Any = None) -> None:
    """Stop working with the other ranks."""
    shutdown()


def get_rank(group: Any = None) -> int:
    """Return the number of this rank."""
    return _of(group).rank()


def get_world_size(group: Any = None) -> int:
    """Return the number of ranks."""
    return _of(group).size()


def barrier(group: Any = None, **_options: Any) -> None:
    """Return once every rank has come here."""
    collectives.barrier(_of(group))


def all_reduce(tensor: torch.Tensor, op: Any = ReduceOp.SUM, group: Any = None) -> None:
    """Overwrite `tensor` with its sum over all ranks, or another reduction."""
    collectives.allreduce_(tensor, op=op, process_set=_of(group))


def broadcast(tensor: torch.Tensor, src: int = 0, group: Any = None) -> None:
    """Overwrite `tensor` with that of rank `src`."""
    broadcast_tensors([tensor], src, _of(group))


def all_gather_object(object_list: list[Any], obj: Any, group: Any = None) -> None:
    """Overwrite a list with every rank's object."""
    object_list[:] = collectives.allgather_object(obj, process_set=_of(group))


def broadcast_object_list(object_list: list[Any], src: int = 0, group: Any = None) -> None:
    """Overwrite a list with that of rank `src`."""
    object_list[:] = collectives.broadcast_object(object_list, src, process_set=_of(group))


def __getattr__(name: str) -> object:
    if name.startswith("__"):
        raise AttributeError(name)
    raise unsupported_name("hpcnn.torch.distributed", name, __all__)

"""PyTorch on MPI: ``import hpcnn.torch as hvd`` for scripts written for Horovod, and a `DistributedDataParallel`.

Importing it does not import PyTorch: each name is fetched when it is first used.
"""

from __future__ import annotations

import hpcnn.comm.tensors.names as _shared

_NAMES = _shared.SHARED | {
    "hpcnn.torch.collectives": [
        "allgather",
        "allgather_object",
        "allreduce",
        "allreduce_",
        "alltoall",
        "barrier",
        "broadcast",
        "broadcast_",
        "broadcast_object",
        "grouped_allgather",
        "grouped_allreduce",
        "grouped_allreduce_",
        "grouped_reducescatter",
        "join",
        "reducescatter",
    ],
    "hpcnn.torch.handles": [
        "allgather_async",
        "allreduce_async",
        "allreduce_async_",
        "alltoall_async",
        "broadcast_async",
        "broadcast_async_",
        "grouped_allreduce_async",
        "grouped_allreduce_async_",
        "poll",
        "reducescatter_async",
        "synchronize",
    ],
    "hpcnn.torch.batch_norm": ["SyncBatchNorm"],
    "hpcnn.torch.broadcasts": ["broadcast_optimizer_state", "broadcast_parameters"],
    "hpcnn.torch.compression": ["Compression"],
    "hpcnn.torch.data_parallel": ["DistributedDataParallel"],
    "hpcnn.torch.optimizer": ["DistributedOptimizer"],
    "hpcnn.torch.sampler": ["DistributedBatchSampler", "DistributedSampler"],
}
_INSTEAD = {
    "check_extension": "There is nothing to build: leave it out.",
    "sparse_allreduce_async": "Use allreduce of tensor.to_dense(), or allgather of its indices and values.",
    "start_timeline": "Use torch.profiler.",
    "stop_timeline": "Use torch.profiler.",
}
_LAZY = _shared.LazyNames("hpcnn.torch", _NAMES, ["distributed"], _INSTEAD)

__all__ = _LAZY.all


def __getattr__(name: str) -> object:
    try:
        return _LAZY.get(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "torch":
            raise
        from hpcnn.errors import MissingExtraError

        raise MissingExtraError("torch", "torch", "hpcnn.torch") from None


def __dir__() -> list[str]:
    return [*globals(), *__all__]

"""Keras 3 on MPI: ``import hpcnn.keras as hvd`` lets scripts that were written for Horovod train over hpcnn.

Importing it imports neither Keras nor TensorFlow: each name is fetched when it is first used.
"""

from __future__ import annotations

import hpcnn.comm.tensors.names as _shared

_NAMES = _shared.SHARED | {
    "hpcnn.keras.collectives": [
        "allgather",
        "allgather_object",
        "allreduce",
        "alltoall",
        "barrier",
        "broadcast",
        "broadcast_object",
        "grouped_allreduce",
        "join",
        "reducescatter",
    ],
    "hpcnn.keras.compression": ["Compression"],
    "hpcnn.keras.optimizer": ["DistributedOptimizer", "PartialDistributedOptimizer"],
    "hpcnn.keras.tape": ["DistributedGradientTape", "PartialDistributedGradientTape"],
    "hpcnn.keras.variables": ["broadcast_global_variables", "broadcast_variables", "load_model"],
}
_INSTEAD = {
    "data": "Give each rank its own part: dataset.shard(hvd.size(), hvd.rank()).",
    "mxnet": "Write the model in Keras.",
    "start_timeline": "Use the TensorBoard callback's profiler.",
    "stop_timeline": "Use the TensorBoard callback's profiler.",
    "torch": "Scripts for PyTorch use hpcnn.torch.",
    "SyncBatchNormalization": "Use keras.layers.BatchNormalization, which takes the statistics of each rank's batch, "
    "or LayerNormalization.",
}
_LAZY = _shared.LazyNames("hpcnn.keras", _NAMES, ["callbacks"], _INSTEAD)
unsupported = _LAZY.unsupported

__all__ = _LAZY.all


def __getattr__(name: str) -> object:
    return _LAZY.get(name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]

"""Keras 3 on MPI: ``import hpcnn.keras as hvd`` lets scripts that were written for Horovod train over hpcnn.

Importing it imports neither Keras nor TensorFlow: each name is fetched when it is first used.
"""

from __future__ import annotations

import importlib

_NAMES = {
    "collectives": [
        "Average",
        "Max",
        "Min",
        "Product",
        "Sum",
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
    "compression": ["Compression"],
    "optimizer": ["DistributedOptimizer", "PartialDistributedOptimizer"],
    "process_sets": ["ProcessSet", "add_process_set", "global_process_set", "process_set_by_id", "remove_process_set"],
    "start": ["init"],
    "tape": ["DistributedGradientTape", "PartialDistributedGradientTape"],
    "variables": ["broadcast_global_variables", "broadcast_variables", "load_model"],
    "world": [
        "ccl_built",
        "cross_rank",
        "cross_size",
        "cuda_built",
        "ddl_built",
        "gloo_built",
        "gloo_enabled",
        "is_homogeneous",
        "is_initialized",
        "local_rank",
        "local_size",
        "mpi_built",
        "mpi_enabled",
        "mpi_threads_supported",
        "nccl_built",
        "rank",
        "rocm_built",
        "shutdown",
        "size",
    ],
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted(["callbacks", *_MODULE_OF])


def __getattr__(name: str) -> object:
    if name == "callbacks":
        return importlib.import_module("hpcnn.keras.callbacks")
    if name in _MODULE_OF:
        return getattr(importlib.import_module(f"hpcnn.keras.{_MODULE_OF[name]}"), name)
    if name.startswith("__"):
        raise AttributeError(name)
    from hpcnn.keras.unsupported import unsupported_name

    raise unsupported_name(name, __all__)


def __dir__() -> list[str]:
    return [*globals(), *__all__]

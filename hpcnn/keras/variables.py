"""Weights that are the same on all ranks: broadcast before the first step, and compared later."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from hpcnn.comm.protocol import Array
from hpcnn.comm.tensors.call_matching import ReduceOp
from hpcnn.comm.tensors.process_sets import ProcessSet, global_process_set
from hpcnn.comm.tensors.reductions import root_within
from hpcnn.comm.tensors.tensor_group import TensorGroup
from hpcnn.errors import CommunicatorError, DriftError
from hpcnn.keras.numpy_calls import backend, call_numpy, type_of
from hpcnn.keras.optimizer import DistributedOptimizer

_ROUNDING = 1e-5
"""Different processors may move weights apart by this, relative to the largest weight, through rounding alone."""


def broadcast_variables(
    variables: Sequence[Any], root_rank: int = 0, process_set: ProcessSet = global_process_set, inplace: bool = False
) -> None:
    """Overwrite variables with those of rank `root_rank`, in one message per type."""
    root, group = root_within(process_set, root_rank), process_set.group
    variables = list(variables)
    if not variables:
        return
    values = call_numpy(
        lambda arrays: group.broadcast(arrays, root),
        [_value(variable) for variable in variables],
        [(tuple(variable.shape), type_of(variable)) for variable in variables],
    )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def broadcast_global_variables(root_rank: int = 0) -> NoReturn:
    """Raise an error: Keras 3 has no list of all variables.

    Raises:
        CommunicatorError: always.
    """
    raise CommunicatorError(
        "broadcast_global_variables(): Keras 3 has no global variables. Use broadcast_variables(model.weights, "
        f"root_rank={root_rank}), or give model.fit callbacks.BroadcastGlobalVariablesCallback({root_rank})."
    )


def load_model(
    filepath: Any,
    custom_optimizers: Any = None,
    custom_objects: Any = None,
    **settings: Any,
) -> Any:
    """Return a model that Keras saved, compiled with its optimizer as a `DistributedOptimizer`, state included.

    Args:
        filepath: the file; every rank reads it.
        custom_optimizers: optimizer classes that Keras does not know.
        custom_objects: other objects that Keras does not know, by name.
        **settings: of `DistributedOptimizer`.
    """
    import keras

    objects = {kind.__name__: kind for kind in custom_optimizers or []} | (custom_objects or {})
    model = keras.models.load_model(filepath, custom_objects=objects or None)
    if model.optimizer is None:
        raise CommunicatorError(f"{str(filepath)!r} holds a model without an optimizer: compile it before it is saved")
    model.optimizer = DistributedOptimizer(model.optimizer, **settings)
    return model


def check_replicas(variables: Sequence[Any], group: TensorGroup, when: str) -> str:
    """Compare the variables of all ranks; return a warning if they differ by what may be rounding.

    Raises:
        DriftError: they differ by more; on all ranks.
    """
    arrays = [np.ascontiguousarray(_on_cpu(variable)) for variable in variables]
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(array.tobytes())
    digests = group.allgather_object(digest.hexdigest())
    if len(set(digests)) == 1:
        return ""
    other = next(rank for rank, each in enumerate(digests) if each != digests[0])
    distance, largest = _distance(arrays, group)
    found = (
        f"{when} the weights of rank {group.members[other]} differ from those of rank {group.members[0]}, "
        f"by up to {distance:.3g} where the largest is {largest:.3g}"
    )
    if distance <= _ROUNDING * largest:
        return f"{found}: the ranks may run on different processors"
    raise DriftError(
        f"{found}: each rank trains its own model. Wrap the optimizer, hvd.DistributedOptimizer(optimizer), or in "
        "a custom loop the tape, hvd.DistributedGradientTape(tape); and start from the same weights, by "
        "hvd.callbacks.BroadcastGlobalVariablesCallback(0) or hvd.broadcast_variables(model.weights, 0)."
    )


def _distance(arrays: Sequence[Array], group: TensorGroup) -> tuple[float, float]:
    """Return the largest distance of any weight from the first rank's, and the first rank's largest weight."""
    first = group.broadcast(arrays, 0)
    pairs = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in zip(arrays, first, strict=True)]
    own = np.array(
        [
            max((np.max(np.abs(a - b), initial=0.0) for a, b in pairs)),
            max(np.max(np.abs(b), initial=0.0) for _, b in pairs),
        ]
    )
    distance, largest = group.allreduce([own], ReduceOp.MAX)[0].tolist()
    return distance, largest


def _value(variable: Any) -> Any:
    return variable.value if hasattr(variable, "value") and not callable(variable.value) else variable


def _on_cpu(variable: Any) -> Array:
    import keras

    if backend() == "tensorflow":
        return np.asarray(variable)
    return np.asarray(keras.ops.convert_to_numpy(variable))

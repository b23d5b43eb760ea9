"""Parameters and the state of an optimizer, made the same on all ranks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from hpcnn.comm.tensors.process_sets import ProcessSet, global_process_set
from hpcnn.comm.tensors.reductions import root_within
from hpcnn.errors import CommunicatorError
from hpcnn.torch.collectives import overwrite
from hpcnn.torch.pending import settle
from hpcnn.torch.tensors import array_of, tensor_of


def broadcast_parameters(params: Any, root_rank: int = 0, process_set: ProcessSet = global_process_set) -> None:
    """Overwrite tensors with those of rank `root_rank`, in one message per type.

    Args:
        params: ``model.state_dict()``, ``model.named_parameters()`` or ``model.parameters()``.
        root_rank: the rank whose values count.
        process_set: the ranks that call this.
    """
    if isinstance(params, Mapping):
        params = params.items()
    if isinstance(params, torch.Tensor | str | bytes) or not isinstance(params, Iterable):
        raise CommunicatorError(
            f"broadcast_parameters() takes model.state_dict() or model.named_parameters(), not {type(params).__name__}"
        )
    values = [each[1] if isinstance(each, tuple) else each for each in params]
    broadcast_tensors([value for value in values if isinstance(value, torch.Tensor)], root_rank, process_set)


def broadcast_tensors(tensors: list[torch.Tensor], root_rank: int, process_set: ProcessSet) -> None:
    """Overwrite tensors with those of rank `root_rank`."""
    if not tensors:
        return
    settle()
    arrays = process_set.group.broadcast([array_of(each) for each in tensors], root_within(process_set, root_rank))
    overwrite([each.detach() for each in tensors], [tensor_of(array) for array in arrays])


def broadcast_optimizer_state(
    optimizer: torch.optim.Optimizer, root_rank: int = 0, process_set: ProcessSet = global_process_set
) -> None:
    """Give an optimizer the settings and the state of the one of rank `root_rank`, which may not have stepped yet."""
    settle()
    group, root = process_set.group, root_within(process_set, root_rank)
    tensors: list[torch.Tensor] = []
    own = group.comm.rank == root
    outline = group.broadcast_object(_outline(optimizer.state_dict(), tensors) if own else None, root)
    found: list[torch.Tensor] = []
    state = _filled(outline, found)
    if own:
        overwrite(found, tensors)
    broadcast_tensors(found, root_rank, process_set)
    if not own:
        optimizer.load_state_dict(state)


class _Place:
    """Stands for a tensor."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.shape, self.dtype = tuple(tensor.shape), tensor.dtype


def _outline(value: Any, tensors: list[torch.Tensor]) -> Any:
    """Return `value` without its tensors, which are appended to `tensors`."""
    if isinstance(value, torch.Tensor):
        tensors.append(value)
        return _Place(value)
    if isinstance(value, dict):
        return {key: _outline(each, tensors) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([_outline(each, tensors) for each in value])
    return value


def _filled(value: Any, tensors: list[torch.Tensor]) -> Any:
    """Return `value` with new tensors, which are appended to `tensors`."""
    if isinstance(value, _Place):
        tensors.append(tensor := torch.zeros(value.shape, dtype=value.dtype))
        return tensor
    if isinstance(value, dict):
        return {key: _filled(each, tensors) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([_filled(each, tensors) for each in value])
    return value

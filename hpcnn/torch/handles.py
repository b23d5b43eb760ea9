"""Collective calls that return at once: `synchronize` waits for the result, `poll` asks whether it is there."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import torch

from hpcnn.comm.tensors.process_sets import ProcessSet, global_process_set
from hpcnn.errors import CommunicatorError
from hpcnn.torch import collectives
from hpcnn.torch.compression import Compression
from hpcnn.torch.pending import submit


class Handle:
    """A call under way."""

    def __init__(self, call: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        self._grad = torch.is_grad_enabled()
        self.future: Future[Any] = submit(lambda: self._run(call, arguments, options))

    def _run(self, call: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        with torch.set_grad_enabled(self._grad):  # a mode of each thread
            return call(*arguments, **options)


def poll(handle: Handle) -> bool:
    """Return whether `synchronize` would return at once."""
    return _checked(handle).future.done()


def synchronize(handle: Handle) -> Any:
    """Return the result of a call, once it is there.

    Raises:
        CommunicatorError: the ranks did not make the same call.
    """
    return _checked(handle).future.result()


def _checked(handle: Handle) -> Handle:
    if not isinstance(handle, Handle):
        raise CommunicatorError(f"{handle!r} is no handle: give what a call that ends with _async returned")
    return handle


def allreduce_async(tensor: Any, *settings: Any, **options: Any) -> Handle:
    """Begin `allreduce`; the arguments are those of `allreduce_`."""
    return grouped_allreduce_async([tensor], *settings, _single=True, **options)


def grouped_allreduce_async(
    tensors: Any,
    average: bool | None = None,
    name: str | None = None,
    op: Any = None,
    prescale_factor: float = 1.0,
    postscale_factor: float = 1.0,
    process_set: ProcessSet = global_process_set,
    *,
    _single: bool = False,
) -> Handle:
    """Begin `grouped_allreduce`; the arguments are those of `grouped_allreduce_`."""

    def call() -> Any:
        results = collectives.grouped_allreduce(
            tensors, average, name, Compression.none, op, prescale_factor, postscale_factor, process_set
        )
        return results[0] if _single else results

    return Handle(call, (), {})


def allreduce_async_(tensor: torch.Tensor, *settings: Any, **options: Any) -> Handle:
    """Begin `allreduce_`."""
    return Handle(collectives.allreduce_, (tensor, *settings), options)


def grouped_allreduce_async_(tensors: Any, *settings: Any, **options: Any) -> Handle:
    """Begin `grouped_allreduce_`."""
    return Handle(collectives.grouped_allreduce_, (tensors, *settings), options)


def allgather_async(tensor: Any, *settings: Any, **options: Any) -> Handle:
    """Begin `allgather`."""
    return Handle(collectives.allgather, (tensor, *settings), options)


def broadcast_async(tensor: Any, *settings: Any, **options: Any) -> Handle:
    """Begin `broadcast`."""
    return Handle(collectives.broadcast, (tensor, *settings), options)


def broadcast_async_(tensor: torch.Tensor, *settings: Any, **options: Any) -> Handle:
    """Begin `broadcast_`."""
    return Handle(collectives.broadcast_, (tensor, *settings), options)


def alltoall_async(tensor: Any, *settings: Any, **options: Any) -> Handle:
    """Begin `alltoall`."""
    return Handle(collectives.alltoall, (tensor, *settings), options)


def reducescatter_async(tensor: Any, *settings: Any, **options: Any) -> Handle:
    """Begin `reducescatter`."""
    return Handle(collectives.reducescatter, (tensor, *settings), options)

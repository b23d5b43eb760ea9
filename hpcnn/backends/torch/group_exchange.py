"""Sums by a process group of PyTorch: equal on all ranks, and right to rounding, but not the bits of the tree."""

from __future__ import annotations

import os
import socket
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.backends.torch.device import Device
from hpcnn.comm.collectives import agree
from hpcnn.comm.exchange.allreduce_base import AllreduceBase
from hpcnn.comm.exchange.plan import check_shards
from hpcnn.comm.protocol import Array, Communicator, Contribution
from hpcnn.core.activity import OTHER
from hpcnn.errors import EXIT_FAILURE, CommunicatorError, PeerError

_ELSE = 'let hpcnn add the gradients itself: torch.comm = "mpi"'
_INTERFACE, _LOOPBACK = "GLOO_SOCKET_IFNAME", "lo"


class GroupExchange(AllreduceBase):
    """A `ReplicatedExchange` whose sums the default process group makes; arguments as of `AllreduceBase`.

    Args:
        place: the `torch.device` that it sums on.
        shapes: the other arguments.
    """

    def __init__(self, place: Any, *shapes: Any) -> None:
        super().__init__(*shapes)
        self._place = place

    def _add_ranks(self, own: Contribution) -> None:
        self._add(own.vector)
        self._add(own.stats)
        np.copyto(self.stats, own.stats)

    def _add(self, array: Array) -> None:
        """Overwrite an array by its sum over all ranks."""
        import torch

        if not array.size:
            return
        ours = torch.from_numpy(array)
        sums = ours.to(self._place)
        try:
            torch.distributed.all_reduce(sums)
            if sums is not ours:
                ours.copy_(sums)
        except RuntimeError as error:
            raise PeerError(f"PyTorch could not add the gradients: {error}", EXIT_FAILURE) from error


def group_exchange(
    comm: Communicator, device: Device | None, shards: int, length: int, dtype: DTypeLike, stats_length: int
) -> GroupExchange:
    """Return an exchange over all ranks of `comm`: by NCCL between GPUs, by gloo between processors. Collective.

    Raises:
        CommunicatorError: there are more ranks than shards; the ranks can't be a process group.
    """
    import torch

    check_shards(shards, comm.size)
    place = torch.device("cpu") if device is None else device.place
    with comm.activity.during(OTHER):
        _connect(comm, place)
    return GroupExchange(place, comm.rank, comm.size, shards, length, dtype, stats_length)


def _connect(comm: Communicator, place: Any) -> None:
    """Make the ranks of `comm` PyTorch's default process group, which stays. Collective; again is no harm."""
    import torch.distributed as dist

    kind = "nccl" if place.type == "cuda" else "gloo"
    if agree(comm, lambda: _is_connected(comm, kind)):
        return
    if kind == "nccl":
        _check_gpus(comm.allgather(_number_of(place)))
    if comm.local_size == comm.size:
        os.environ.setdefault(_INTERFACE, _LOOPBACK)
    host = "localhost" if comm.local_size == comm.size else socket.gethostname()
    store = agree(comm, lambda: _store(host, 0, first=True) if comm.rank == 0 else None)
    host, port = comm.broadcast(None if store is None else (host, store.port))
    store = agree(comm, lambda: store or _store(host, port, first=False))

    def join() -> None:
        try:
            dist.init_process_group(kind, store=store, rank=comm.rank, world_size=comm.size)
        except RuntimeError as error:
            raise CommunicatorError(f"PyTorch can't connect the ranks by {kind}: {error}. Else {_ELSE}") from None

    agree(comm, join)


def _is_connected(comm: Communicator, kind: str) -> bool:
    """Return whether there is the group already.

    Raises:
        CommunicatorError: there is another, or there can be none.
    """
    import torch.distributed as dist

    if not dist.is_available() or (kind == "nccl" and not dist.is_nccl_available()):
        raise CommunicatorError(f"this build of PyTorch can't sum by {kind}: install another, or {_ELSE}")
    if not dist.is_initialized():
        return False
    found = dist.get_backend(), dist.get_rank(), dist.get_world_size()
    if found != (kind, comm.rank, comm.size):
        raise CommunicatorError(
            f"rank {comm.rank} of {comm.size} is already rank {found[1]} of {found[2]} in PyTorch's default process "
            f"group, over {found[0]}, but needs one over {kind}. Do not make that group, or {_ELSE}"
        )
    return True


def _number_of(place: Any) -> str:
    import torch

    return str(getattr(torch.cuda.get_device_properties(place), "uuid", socket.gethostname() + str(place)))


def _check_gpus(numbers: list[str]) -> None:
    for rank, number in enumerate(numbers):
        first = numbers.index(number)
        if first != rank:
            raise CommunicatorError(
                f"ranks {first} and {rank} have the same GPU, and NCCL needs one for each: start as many ranks as "
                f"there are GPUs, or {_ELSE}"
            )


def _store(host: str, port: int, *, first: bool) -> Any:
    """Return where ranks leave their addresses, which the first of them keeps."""
    import torch.distributed as dist

    try:
        return dist.TCPStore(host, port, is_master=first, wait_for_workers=False)  # type: ignore[attr-defined]
    except RuntimeError as error:
        raise CommunicatorError(f"PyTorch can't connect the ranks at {host}:{port}: {error}. Else {_ELSE}") from None

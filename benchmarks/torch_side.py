"""The side of PyTorch: the training loop of its tutorials, in one process or data-parallel.

Denormals count as zero, as they do in hpcnn: they would slow PyTorch down once some gradients have died away.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.problem import BATCH
from hpcnn.comm.protocol import Array, Communicator
from hpcnn.errors import CommunicatorError, HpcnnError


def load_torch() -> ModuleType:
    """Return PyTorch, set to one thread."""
    try:
        import torch
    except ImportError:
        raise HpcnnError(
            "this benchmark compares with PyTorch, which is not installed. benchmarks/install.sh installs it."
        ) from None
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    return torch


@contextmanager
def gloo_group(comm: Communicator) -> Iterator[None]:
    """Make the ranks PyTorch's default process group, over gloo and the loopback interface."""
    torch = load_torch()
    if comm.local_size < comm.size:
        raise CommunicatorError(f"{comm.size} ranks on several nodes: this benchmark compares the ranks of one node")
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    with tempfile.TemporaryDirectory() as folder:
        path = comm.broadcast(str(Path(folder, "store")))
        store = torch.distributed.FileStore(path, comm.size)
        torch.distributed.init_process_group("gloo", store=store, rank=comm.rank, world_size=comm.size)
        yield
        torch.distributed.destroy_process_group()
        comm.barrier()  # before rank 0 removes its folder


def torch_ddp(*, tuned: bool) -> Callable[[Any], Any]:
    """Return what makes a module data-parallel over the process group."""
    kind = load_torch().nn.parallel.DistributedDataParallel
    return partial(kind, gradient_as_bucket_view=tuned, static_graph=tuned)


def torch_steps(
    module: Any,
    x: Array,
    y: Array,
    ranks: tuple[int, int] = (0, 1),
    *,
    wrap: Callable[[Any], Any] | None = None,
    tuned: bool = False,
    batch: int = BATCH,
) -> Iterator[None]:
    """Train a module for ever, one step at a time.

    Args:
        module: the network.
        x: its inputs.
        y: the labels.
        ranks: the rank of this process, and their number.
        wrap: makes it data-parallel.
        tuned: with the fused Adam.
        batch: samples per step and rank.
    """
    torch = load_torch()
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
    if wrap is not None:
        module = wrap(module)
    optimizer = torch.optim.Adam(module.parameters(), fused=tuned or None)
    criterion = torch.nn.CrossEntropyLoss()
    generator = torch.Generator().manual_seed(0)
    rank, size = ranks
    while True:
        order = torch.randperm(len(inputs), generator=generator)[rank::size]  # as DistributedSampler deals them
        for start in range(0, len(order) - batch + 1, batch):
            chosen = order[start : start + batch]
            optimizer.zero_grad()
            criterion(module(inputs[chosen]), labels[chosen]).backward()
            optimizer.step()
            yield

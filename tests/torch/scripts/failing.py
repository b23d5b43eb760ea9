"""Scripts that go wrong, one for each argument: how the job ends is what the test looks at."""

from __future__ import annotations

import sys

import torch

import hpcnn.torch as hvd
import hpcnn.torch.distributed as dist


def step(model: torch.nn.Module) -> None:
    model(torch.ones(2, 3)).sum().backward()


def raises() -> None:
    """Fail on rank 1, while the others wait for its gradients; a process group of PyTorch has put in its own hook."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    model = hvd.DistributedDataParallel(torch.nn.Linear(3, 1))
    if hvd.rank() == 1:
        raise ZeroDivisionError("an error of the script's own")
    step(model)


def leaves() -> None:
    """Take fewer steps on rank 1."""
    model = hvd.DistributedDataParallel(torch.nn.Linear(3, 1))
    for _ in range(2 - hvd.rank()):
        step(model)


def differs() -> None:
    """Build another module on rank 1."""
    hvd.DistributedDataParallel(torch.nn.Linear(3, 1 + hvd.rank()))


def mixes() -> None:
    """Ask for a mean on rank 1 while rank 0 takes a step, with gradients sent beside the computation."""
    model = hvd.DistributedDataParallel(torch.nn.Linear(3, 1000), bucket_cap_mb=0.001)
    if hvd.rank() == 1:
        hvd.allreduce(torch.ones(3))
    step(model)


def accumulates() -> None:
    """Make two backward passes without saying so."""
    model = torch.nn.Linear(3, 1)
    hvd.DistributedOptimizer(torch.optim.SGD(model.parameters(), lr=0.1))
    step(model)
    step(model)


def zeroes() -> None:
    """Remove gradients that the other ranks wait for."""
    model = torch.nn.Linear(3, 1)
    optimizer = hvd.DistributedOptimizer(torch.optim.SGD(model.parameters(), lr=0.1))
    step(model)
    optimizer.zero_grad()


def early() -> None:
    """Ask for the rank before the ranks are connected."""
    hvd.rank()


if __name__ == "__main__":
    if sys.argv[1] != "early":
        assert dist.get_rank() < dist.get_world_size() == 2  # without init_process_group
    globals()[sys.argv[1]]()

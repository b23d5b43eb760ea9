"""Samplers that deal the samples of a data set to the ranks: each sample to one rank, once an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import Any

import torch

from hpcnn.comm.tensors.world import connect_ranks, world
from hpcnn.errors import CommunicatorError


class DistributedSampler(torch.utils.data.Sampler[int]):
    """In place of PyTorch's own sampler of this name, which repeats samples or drops them until all ranks have as many.

    Some ranks may have one sample more than others.

    Args:
        dataset: has a length.
        num_replicas: the number of ranks, if it is not that of the job.
        rank: the number of this one.
        shuffle: draw a new order each epoch, the same on all ranks; see `set_epoch`.
        seed: of the orders; the same on all ranks.
        drop_last: drop the samples that can't be dealt evenly, as PyTorch's does.
    """

    def __init__(
        self,
        dataset: Sized,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        if num_replicas is None or rank is None:
            connect_ranks()
        self.num_replicas = world().comm.size if num_replicas is None else num_replicas
        self.rank = world().comm.rank if rank is None else rank
        if not 0 <= self.rank < self.num_replicas:
            raise CommunicatorError(f"rank={self.rank} is not one of 0 to {self.num_replicas - 1}")
        self.dataset, self.shuffle, self.seed, self.drop_last, self.epoch = dataset, shuffle, seed, drop_last, 0

    @property
    def counts(self) -> list[int]:
        """The number of samples of each rank."""
        each, more = divmod(len(self.dataset), self.num_replicas)
        return [each + (rank < more and not self.drop_last) for rank in range(self.num_replicas)]

    def __len__(self) -> int:
        """Return the number of samples of this rank."""
        return self.counts[self.rank]

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers of this rank's samples, in the order of the epoch."""
        samples = len(self.dataset)
        if self.shuffle:
            generator = torch.Generator()
            generator.manual_seed(self.seed + self.epoch)
            order = torch.randperm(samples, generator=generator)
        else:
            order = torch.arange(samples)
        yield from order[self.rank :: self.num_replicas][: len(self)].tolist()

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch; without, each epoch has the same."""
        self.epoch = epoch


class DistributedBatchSampler(torch.utils.data.Sampler[list[int]]):
    """The batches of a `DistributedSampler`, as many on each rank: for the ``batch_sampler`` of a data loader.

    With ``batch_size`` of the data loader alone, a rank that has one sample more may have one batch more.
    A rank's batches differ by one sample at most.

    Args:
        sampler: deals the samples.
        batch_size: samples in a batch of one rank, at most.
    """

    def __init__(self, sampler: DistributedSampler, batch_size: int) -> None:
        counts = sampler.counts
        if batch_size < 1:
            raise CommunicatorError(f"batch_size={batch_size} must be 1 or more")
        self.sampler, self.batch_size = sampler, batch_size
        self._batches = -(-max(counts) // batch_size)
        if min(counts) < self._batches:
            raise CommunicatorError(
                f"{sum(counts)} samples on {len(counts)} ranks, in batches of {batch_size}: some rank would have fewer "
                "than one sample per batch. Use larger batches, or fewer ranks."
            )

    def __len__(self) -> int:
        """Return the number of batches, which is that of all ranks."""
        return self._batches

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the numbers of the samples of each batch."""
        own: list[Any] = list(self.sampler)
        for number in range(self._batches):
            yield own[len(own) * number // self._batches : len(own) * (number + 1) // self._batches]

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch; see `DistributedSampler.set_epoch`."""
        self.sampler.set_epoch(epoch)

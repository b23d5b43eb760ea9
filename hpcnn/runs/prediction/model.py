"""From a job to the model of its steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hpcnn.comm.exchange.formats import WIRE_BYTES
from hpcnn.job.schema import Job
from hpcnn.nn.layer import BatchLayer
from hpcnn.nn.network import Network
from hpcnn.runs.memory import shards_by_itself
from hpcnn.runs.prediction.compute import Compute
from hpcnn.runs.prediction.steps import Model
from hpcnn.training.backend import ModelSpec
from hpcnn.training.tuning import bucket_entries


@dataclass(frozen=True)
class Sums:
    """What the ranks of a job sum in a step."""

    length: int
    """Gradient entries."""
    stats_length: int
    batch_sums: tuple[int, ...]
    """See `Model.batch_sums`."""

    @classmethod
    def of(cls, spec: ModelSpec) -> Sums:
        """Return those of a model."""
        network = spec.network
        batch_sums = _batch_sums(network) if isinstance(network, Network) else ()
        return cls(network.layout.trainable_size, spec.stats_length, batch_sums)


def _batch_sums(network: Network) -> tuple[int, ...]:
    """Return the entries of count, mean and square of each layer of the whole batch, forward and backward."""
    found = [node for node in network.nodes if isinstance(node.layer, BatchLayer) and node.layer.synchronized]
    return tuple(1 + 2 * node.given_shape[-1] for node in found for _ in range(2))


def no_memory(ranks: int, batch: int) -> int:
    """Return 0: where nobody asks for the memory of a rank."""
    return 0


def model_of(job: Job, sums: Sums, compute: Compute, memory: Callable[[int, int], int] = no_memory) -> Model:
    """Return the model of a job with a known number of shards."""
    train = job.train
    compressed, entry_bytes = train.compression != "none", np.dtype(train.dtype).itemsize
    assert isinstance(train.shards, int)

    def shares_update(ranks: int, nodes: int) -> bool:
        if compressed and nodes > 1 and train.optimizer_sharding == "auto":
            return False
        return shards_by_itself(job, sums.length, ranks)

    def buckets(nodes: int) -> int:
        if train.bucket_mb == "auto" and job.run.on_rank_loss == "continue":
            return 1
        return max(1, round(sums.length / (bucket_entries(train, sums.length, nodes) or sums.length)))

    return Model(
        compute=compute,
        length=sums.length,
        item_bytes=WIRE_BYTES if compressed else entry_bytes,
        stats_length=sums.stats_length,
        shards=train.shards,
        gathers=not compressed,
        shares_update=shares_update,
        memory=memory,
        buckets=buckets,
        memory_bytes=entry_bytes if compressed else 0,
        batch_sums=sums.batch_sums,
    )

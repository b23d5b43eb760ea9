"""The memory that a rank needs in training, known before it trains, and what to say of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpcnn.comm.protocol import Communicator
from hpcnn.core.formatting import approximate_size, counted
from hpcnn.core.tree import Subtree, leaf_steps, maximal_subtrees, owned_leaves
from hpcnn.data.sampler import check_batch, shard_starts
from hpcnn.job.schema import Job
from hpcnn.nn.loss import BoundLoss
from hpcnn.nn.network import Network
from hpcnn.optim.build import build_optimizer
from hpcnn.runs.build import shards_optimizer_state
from hpcnn.system.free_memory import free_memory
from hpcnn.training.backend import ModelSpec
from hpcnn.training.training import Training
from hpcnn.training.tuning import SHARDING_PAYS

WORTH_SAYING = 10**8
"""Bytes of a rank below which a run says nothing of memory."""
_MOST_COPIES = 20
"""Scratch of a layer is less than so many times its outputs, but for rare layers."""


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that a rank takes in training, without the data, Python and its libraries."""

    weights: int
    """A host has them once where the optimizer is sharded; so they are counted for each rank at most."""
    gradients: int
    optimizer: int
    scratch: int | None
    """Activations, their gradients, and what layers keep in a pass; None: whoever computes them does not say."""
    batches: int
    """Inputs and targets."""

    @property
    def parts(self) -> dict[str, int]:
        """The parts that are known, by what they are for."""
        parts = {"weights": self.weights, "gradients": self.gradients, "optimizer state": self.optimizer}
        if self.scratch is not None:
            parts["activations and scratch"] = self.scratch
        return parts | {"batches": self.batches}

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class Share:
    """The share of a batch that one rank computes."""

    subtrees: Sequence[Subtree]
    """Of gradient shards."""
    samples: int

    @property
    def shards(self) -> int:
        """How many there are."""
        return self.subtrees[-1][1] - self.subtrees[0][0]


def largest_share(batch: int, shards: int, ranks: int) -> Share:
    """Return the largest share of a batch.

    >>> largest_share(64, 8, 3)
    Share(subtrees=[(2, 4), (4, 5)], samples=24)
    """

    def samples(rank: int) -> int:
        starts = shard_starts(batch, shards, *owned_leaves(shards, ranks, rank))
        return starts[-1] - starts[0]

    rank = max(range(ranks), key=samples)
    return Share(maximal_subtrees(shards, owned_leaves(shards, ranks, rank)), samples(rank))


def memory_need(job: Job, spec: ModelSpec, *, samples: int, held_out: int, ranks: int, sharded: bool) -> MemoryNeed:
    """Return what the rank with the largest share of a batch needs.

    Args:
        job: with a number of shards.
        spec: its model.
        samples: of the training data.
        held_out: samples of the validation data.
        ranks: how many there are.
        sharded: whether each rank updates its own parameters only.
    """
    train, layout = job.train, spec.network.layout
    assert isinstance(train.shards, int)
    entry = np.dtype(train.dtype).itemsize
    batch = check_batch(train.batch_size, samples)
    share = largest_share(batch, train.shards, ranks)
    network = spec.network if job.backend == "numpy" and isinstance(spec.network, Network) else None
    keeps_best = train.early_stopping is not None and train.early_stopping.restore_best
    piece = min(train.eval_batch_size, held_out)
    steps = train.epochs * math.ceil(samples / batch)
    measures = 0 < job.run.noise_scale_every <= steps and share.shards > 1
    loaded = share.samples if _together(network, spec) else math.ceil(share.samples / share.shards)
    return MemoryNeed(
        weights=layout.size * entry * (1 + keeps_best),
        gradients=layout.trainable_size
        * entry
        * _gradients(network, spec, share, ranks, sharded=sharded, measures=measures),
        optimizer=_optimizer_entries(job, layout.trainable_size, ranks if sharded else 1) * entry,
        scratch=None if network is None else _scratch(job, spec, share, batch, piece),
        batches=(loaded + piece) * _sample_bytes(spec, train.dtype),
    )


def shards_by_itself(job: Job, parameters: int, ranks: int) -> bool:
    """Return whether so many ranks of one host would update their own parameters only."""
    if ranks == 1 or job.run.on_rank_loss == "continue":
        return False
    chosen = job.train.optimizer_sharding
    return parameters >= SHARDING_PAYS * ranks if chosen == "auto" else chosen


def _together(network: Network | None, spec: ModelSpec) -> bool:
    """Return whether the samples of all shards of a rank are there at the same time."""
    if network is None:
        return False
    return (network.recordable and spec.arithmetic == "native") or network.synchronized or spec.loss.synchronized


def _gradients(
    network: Network | None, spec: ModelSpec, share: Share, ranks: int, *, sharded: bool, measures: bool
) -> int:
    """Return how many vectors of gradients a rank has."""
    whole = ranks == 1 and not sharded
    vectors = 1 if whole else len(share.subtrees) + (not sharded)  # one for each subtree, and one for the sum
    if network is not None and network.recordable and spec.arithmetic == "native":
        return vectors + measures  # the first shard's, apart from the others
    if _together(network, spec):
        return vectors + share.shards
    return vectors + max(step.slot for subtree in share.subtrees for step in leaf_steps(subtree))


def _optimizer_entries(job: Job, trainable: int, owners: int) -> int:
    """Return the entries of the optimizer's vectors: its state, and the gradient that waits for its norm."""
    optimizer = build_optimizer(job.optimizer)
    vectors = len(optimizer.init(np.empty(1))) + (len(optimizer.stages) > 1)
    return vectors * math.ceil(trainable / owners)


def _scratch(job: Job, spec: ModelSpec, share: Share, batch: int, piece: int) -> int:
    from hpcnn.backends.numpy.dry_run import scratch_of_rank

    pairs = 0
    if isinstance(spec.loss, BoundLoss):
        between = spec.loss.loss.entries_between
        pairs = between(share.samples, batch) + between(piece, piece)
    scratch = scratch_of_rank(spec, job.train.dtype, share.subtrees, share.samples, piece)
    return scratch + pairs * np.dtype(job.train.dtype).itemsize


def _sample_bytes(spec: ModelSpec, dtype: str) -> int:
    from hpcnn.backends.numpy.dry_run import targets_like

    network = spec.network
    inputs = math.prod(network.input_shape) * np.dtype(dtype).itemsize
    return inputs + targets_like(spec.loss, network.output_shape, 1, dtype).nbytes


# ------------------------------------------------------------------------------------------------------------ in words


def need_in_words(need: MemoryNeed) -> str:
    """Return the line that a run begins with.

    >>> need_in_words(MemoryNeed(12_000_000, 12_000_000, 24_000_000, 1_200_000_000, 3_000_000))
    'about 1.25 GB a rank (weights 12 MB, gradients 12 MB, optimizer state 24 MB, activations and scratch 1.2 GB, \
batches 3 MB)'
    """
    parts = ", ".join(f"{what} {approximate_size(size)}" for what, size in need.parts.items())
    unknown = "" if need.scratch is not None else ", and what Keras needs for activations"
    return f"about {approximate_size(need.total)} a rank ({parts}{unknown})"


def shortage(need: int, free: int | None, ranks: int, host: str) -> str | None:
    """Return what to say if the ranks of a host, which need so many bytes together, find less; None if there is enough.

    >>> shortage(8 * 10**9, 6 * 10**9, 1, "node1")
    '1 rank on node1 needs about 8 GB of memory, but only 6 GB are free: the system may end it. Use more ranks on more \
hosts, a smaller train.batch_size or a smaller model, or train.optimizer_sharding = true.'
    """
    if free is None or need <= free:
        return None
    verb, them = ("needs", "it") if ranks == 1 else ("need", "them")
    return (
        f"{counted(ranks, 'rank')} on {host} {verb} about {approximate_size(need)} of memory, but only "
        f"{approximate_size(free)} are free: the system may end {them}. Use more ranks on more hosts, a smaller "
        "train.batch_size or a smaller model, or train.optimizer_sharding = true."
    )


def memory_notes(comm: Communicator, training: Training) -> tuple[str, str | None]:
    """Return, on rank 0, what a run needs and what to warn of; nothing of a small or a quiet one. Collective."""
    job, spec, splits = training.job, training.spec, training.splits
    if job.run.quiet or _certainly_small(training):  # so that a short run does not wait for its estimate
        return "", None
    hosts = comm.allgather((comm.host, free_memory()))
    if comm.rank:
        return "", None
    sharded = shards_optimizer_state(job, spec, comm)
    held_out = len(splits.validation) if splits.validation else 0
    try:
        need = memory_need(job, spec, samples=len(splits.train), held_out=held_out, ranks=comm.size, sharded=sharded)
    except (MemoryError, OSError):  # to estimate it must not end a run that has what it needs
        return "", None
    if need.total < WORTH_SAYING:
        return "", None
    return f"memory: {need_in_words(need)}", _first_shortage(need, hosts)


def _certainly_small(training: Training) -> bool:
    """Return whether all layers' outputs are so small that there is nothing to say. The same on all ranks."""
    network, train = training.spec.network, training.job.train
    if not isinstance(network, Network):
        return 8 * network.layout.size * np.dtype(train.dtype).itemsize < WORTH_SAYING
    entries = sum(math.prod(node.output_shape) for node in network.nodes) + math.prod(network.input_shape)
    samples = training.shards.batch_size + train.eval_batch_size
    most = _MOST_COPIES * (samples * entries + network.layout.size)
    return most * np.dtype(train.dtype).itemsize < WORTH_SAYING


def _first_shortage(need: MemoryNeed, hosts: Sequence[tuple[str, int | None]]) -> str | None:
    warnings = []
    for host in dict.fromkeys(name for name, _ in hosts):
        frees = [free for name, free in hosts if name == host]
        known = [free for free in frees if free is not None]
        # The weights are there already, and those who share them have them once.
        together = (need.total - need.weights) * len(frees)
        warnings.append(shortage(together, min(known, default=None), len(frees), host))
    return next(filter(None, warnings), None)

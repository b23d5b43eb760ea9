"""All that a job's training is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hpcnn.comm.protocol import Array
from hpcnn.data.content import Content, DataChange
from hpcnn.data.samples import Splits
from hpcnn.job.schema import Job
from hpcnn.training.backend import ModelSpec
from hpcnn.training.callbacks import Callback
from hpcnn.training.loader import PieceLoader, ShardLoader
from hpcnn.training.noise_scale import NoiseScaleMeter
from hpcnn.training.replica import Replica


@dataclass(frozen=True)
class Training:
    """A job with its data, model and whatever steers it, as `hpcnn.runs.build` makes it."""

    job: Job
    splits: Splits
    spec: ModelSpec
    replica: Replica
    shards: ShardLoader
    """The training samples."""
    validation: PieceLoader | None
    schedule: Callable[[int], float]
    """What multiplies the learning rate of each step."""
    monitor: str
    """The value that decides which epoch is the best."""
    callbacks: dict[str, Callback]
    """Those whose state is part of checkpoints, by name."""
    noise_scale: NoiseScaleMeter | None = None
    """One of the callbacks; None where gradients are not measured."""
    class_weights: Array | None = None
    content: Content | None = None
    """What a run keeps of its data, to know them again; None where settings compute them."""
    data_changes: tuple[DataChange, ...] = ()
    """The changes of its data that the user accepted."""

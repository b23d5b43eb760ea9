"""How many gradient shards a job has: decided by the job alone, so that every number of ranks gives one result."""

from __future__ import annotations

from hpcnn.job.schema import MOST_SHARDS, Job

SAMPLES_PER_SHARD = 16
"""Samples in each shard, at least, with `native` arithmetic and automatic shards: on one rank a step of a dense network
takes at most 1.15 times as long as with one shard."""
NUMPY_SHARDS = 8
"""Automatic shards with `numpy` arithmetic: each has library calls of its own, so that on one rank a step takes 1.1 to
2.6 times as long as with one shard."""
LIBRARY_SHARDS = 4
"""Automatic shards in Keras and PyTorch mode. In the first a step takes 1.2 to 2.6 times as long, and with eight 1.3 to
5.6 times."""


def shards_of(job: Job, samples: int | None = None) -> int | None:
    """Return the number of shards of each batch.

    Args:
        job: the job.
        samples: the number of training samples; needed for automatic shards of a full batch.

    Returns:
        the number; None if it follows from the number of samples, and that is not given.

    >>> from hpcnn.job.load import load_job
    >>> automatic = ["train.shards=auto", "train.batch_size=100", "train.arithmetic=native"]
    >>> shards_of(load_job(overrides=automatic).job)
    6
    """
    train = job.train
    if train.shards != "auto":
        return train.shards
    batch = samples if train.batch_size == "full" else train.batch_size
    if batch is None:
        return None
    if job.backend != "numpy":
        return min(batch, LIBRARY_SHARDS)
    if train.arithmetic == "numpy":
        return min(batch, NUMPY_SHARDS)
    return min(max(batch // SAMPLES_PER_SHARD, 1), MOST_SHARDS)

"""How the training samples of a job are read: their order, windows of chunks, and reading ahead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import msgspec
import numpy as np

from hpcnn.comm.protocol import Communicator
from hpcnn.core.activity import DATA
from hpcnn.data.augmentation import Augmentation
from hpcnn.data.chunks import chunk_rows_of, is_decoded, replaced, stored, stored_index, usual_chunk_rows
from hpcnn.data.rows import Rows, in_memory
from hpcnn.data.sampler import Indices, check_batch
from hpcnn.data.samples import Samples, Splits
from hpcnn.job.augment import Augment
from hpcnn.job.schema import Job
from hpcnn.nn.several_losses import BoundLosses
from hpcnn.training.backend import ModelSpec
from hpcnn.training.loader import Order, Reads, ShardLoader
from hpcnn.training.windows import Windows


def with_chunk_rows(job: Job, x: Rows) -> Job:
    """Return the job with the number of rows in a chunk of its inputs, which is part of its result from then on."""
    data = job.data
    if data.order != "windows" or data.chunk_rows:
        return job
    return msgspec.structs.replace(job, data=msgspec.structs.replace(data, chunk_rows=usual_chunk_rows(x)))


def shard_loader(job: Job, spec: ModelSpec, splits: Splits, comm: Communicator) -> ShardLoader:
    """Return the loader of the training samples. Collective."""
    train, data, samples = job.train, job.data, splits.train
    assert isinstance(train.shards, int)
    chunk_of, windows = None, None
    if splits.train_index is not None and train.shuffle:
        chunk_of = splits.train_index // data.chunk_rows
        windows = _windows(job, samples, splits.train_index, comm)
    x, y = (rows if windows is None else replaced(rows, partial(_within, windows)) for rows in (samples.x, samples.y))
    held = data.augment is None and all(in_memory(rows) for array in (x, y) for rows in stored(array))
    on_epoch: Callable[[int], object] = bool
    if data.augment is not None:
        changed = _augmentation(spec, data.augment, replace(samples, x=x, y=y), train.seed)
        x, y, on_epoch = changed.x, changed.y, changed.start_epoch
    return ShardLoader(
        x,
        y,
        batch_size=check_batch(train.batch_size, len(samples)),
        shards=train.shards,
        order=Order(train.seed, train.shuffle, train.arithmetic, chunk_of, data.window_chunks),
        input_shape=spec.network.input_shape,
        dtype=train.dtype,
        reads=Reads(0 if held else data.prefetch, windows, partial(comm.activity.enter, DATA)),
        on_epoch=on_epoch,
        weights=samples.weights,
    )


def _augmentation(spec: ModelSpec, augment: Augment, samples: Samples, seed: int) -> Augmentation:
    losses = [part.bound for part in spec.loss.parts] if isinstance(spec.loss, BoundLosses) else [spec.loss]
    mixes = all(loss.target_kind in ("values", "any") for loss in losses)
    outside = next((loss.ignore_class for loss in losses if loss.ignore_class is not None), 0)
    return Augmentation(augment, samples, seed, mixes=mixes, outside=outside)


def _windows(job: Job, samples: Samples, index: Indices, comm: Communicator) -> Windows | None:
    """Return windows of the rows that are decoded in chunks; None if there are none, or a sample is of several rows."""
    if job.data.window is not None:
        return None
    arrays = [array for array in (samples.x, samples.y) if is_decoded(array)]
    decoded = [rows for array in arrays for rows in stored(array) if chunk_rows_of(rows)]
    if not decoded or any(not np.array_equal(stored_index(array), index) for array in arrays):
        return None
    shared = job.run.on_rank_loss != "continue"  # ranks that are lost can't decode their share
    return Windows(decoded, comm, job.data.chunk_rows, job.data.window_chunks, shared=shared)


def _within(windows: Windows, rows: Rows) -> Rows:
    return windows.rows.get(rows, rows)


def reading_notes(job: Job, splits: Splits) -> tuple[str, ...]:
    """Return a warning where each batch decodes many chunks for a few rows of each."""
    x = splits.train.x
    chunk_rows = max(map(chunk_rows_of, stored(x)))
    if not is_decoded(x) or chunk_rows == 1 or not job.train.shuffle or job.data.order == "windows":
        return ()
    return (
        f"the inputs stay in a file that is decoded in chunks of {chunk_rows:,} rows, and are read in random order: "
        'a chunk is decoded for each of its rows anew. Set data.order = "windows", or data.keep = "memory".',
    )

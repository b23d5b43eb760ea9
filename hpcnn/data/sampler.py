"""The order of the samples: pure functions of the seed, the same on any number of ranks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hpcnn.core.formatting import counted
from hpcnn.errors import DataError

Indices = NDArray[np.int64]

ORDER_STREAM = 2
"""Random stream of the order of samples."""
SPLIT_STREAM = 3
"""Random stream of the choice of validation samples."""
CHUNK_STREAM = 6
"""Random stream of the order of chunks."""


def permutation(n: int, arithmetic: str, *key: int) -> Indices:
    """Return 0 to n - 1 in random order, which `key` decides: seed, stream and, of a stream, the place."""
    if arithmetic == "native":
        from hpcnn.kernels import core

        order = np.empty(n, np.int64)
        core.permutation(key[0], key[1], key[2] if len(key) > 2 else 0, order)
        return order
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key))).permutation(n)


def epoch_order(n: int, seed: int, epoch: int, *, shuffle: bool, arithmetic: str = "numpy") -> Indices:
    """Return the order of the n samples in one epoch, shape (n,), a pure function of its arguments.

    >>> epoch_order(4, seed=0, epoch=0, shuffle=False)
    array([0, 1, 2, 3])
    >>> sorted(epoch_order(4, seed=0, epoch=7, shuffle=True).tolist())
    [0, 1, 2, 3]
    """
    return permutation(n, arithmetic, seed, ORDER_STREAM, epoch) if shuffle else np.arange(n, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class WindowOrder:
    """The order of the samples in one epoch, window after window."""

    samples: Indices
    """The n samples in order."""
    chunks: Indices
    """The chunks that hold them, in order: the first window is the first `window_chunks` of these, and so on."""
    ends: Indices
    """The number of samples up to the end of each window."""


def window_order(
    chunk_of: Indices, window_chunks: int, seed: int, epoch: int, *, arithmetic: str = "numpy"
) -> WindowOrder:
    """Return samples in chunks of random order, shuffled within windows of `window_chunks` chunks.

    `chunk_of`, shape (n,), says which chunk each sample is in. The result is a pure function of the arguments.

    >>> order = window_order(np.arange(12) // 3, 2, seed=0, epoch=0)
    >>> sorted((order.samples[:6] // 3).tolist()) == sorted(order.chunks[:2].tolist() * 3)
    True
    >>> order.ends.tolist()
    [6, 12]
    """
    n, numbers = len(chunk_of), np.unique(chunk_of)
    chunks = numbers[permutation(len(numbers), arithmetic, seed, CHUNK_STREAM, epoch)]
    windows = -(-len(chunks) // window_chunks)
    window_of_chunk = np.zeros(int(numbers[-1]) + 1, np.int64 if windows > 2**15 else np.int16)  # int16: sorted fast
    window_of_chunk[chunks] = np.arange(len(chunks)) // window_chunks
    shuffled = permutation(n, arithmetic, seed, ORDER_STREAM, epoch)
    window_of = window_of_chunk[chunk_of[shuffled]]
    samples = shuffled[np.argsort(window_of, kind="stable")]
    return WindowOrder(samples, chunks, np.cumsum(np.bincount(window_of, minlength=windows)))


def held_out_count(n: int, fraction: float) -> int:
    """Return how many of n samples are held out for validation. DataError: all of them, or none."""
    held_out = math.floor(n * fraction + 0.5)
    if fraction > 0 and not 0 < held_out < n:
        raise DataError(
            f"validation_fraction = {fraction:g} of {counted(n, 'sample')} leaves {held_out} for validation and "
            f"{n - held_out} for training; each needs at least one. Choose another fraction, or use more data."
        )
    return held_out


def validation_split(n: int, fraction: float, seed: int, arithmetic: str = "numpy") -> tuple[Indices, Indices]:
    """Return the indices of the training and of the validation samples, each sorted; together they are all n.

    `fraction` is the fraction held out, in [0, 1); with 0 the second array is empty.

    Raises:
        DataError: one of the two sides would be empty.

    >>> train, validation = validation_split(10, 0.2, seed=0)
    >>> len(train), len(validation)
    (8, 2)
    """
    held_out = held_out_count(n, fraction)
    chosen = np.zeros(n, dtype=np.bool_)
    if held_out:
        chosen[permutation(n, arithmetic, seed, SPLIT_STREAM)[:held_out]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def check_batch(batch_size: int | Literal["full"], n: int) -> int:
    """Return the number of samples in a full batch, given `n` samples of training data.

    Raises:
        DataError: the batch is larger than the data.

    >>> check_batch("full", 100)
    100
    """
    if batch_size == "full":
        return n
    if batch_size > n:
        raise DataError(
            f"train.batch_size = {batch_size} is larger than the training data: {counted(n, 'sample')}. "
            f'Choose at most {n}, or "full" for all of them.'
        )
    return batch_size


def steps_per_epoch(n: int, batch_size: int) -> int:
    """Return the number of batches that cover n samples; the last may be smaller."""
    return -(-n // batch_size)


def batch_bounds(n: int, batch_size: int, step: int) -> tuple[int, int]:
    """Return the start and stop of batch `step` of an epoch. The last may be smaller: nothing is padded or dropped."""
    start = step * batch_size
    assert 0 <= start < n, f"step {step} of batches of {batch_size} is outside of {n} samples"
    return start, min(start + batch_size, n)


def shard_starts(n: int, shards: int, first: int, stop: int) -> tuple[int, ...]:
    """Return the first sample of each of the gradient shards [first, stop) of a batch of n, and the end of the last.

    >>> shard_starts(10, 4, 1, 4)
    (2, 5, 7, 10)
    """
    return tuple(n * shard // shards for shard in range(first, stop + 1))

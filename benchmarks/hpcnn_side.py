"""The side of hpcnn: replicas as its own training builds them, and their steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import numpy as np

from benchmarks.problem import BATCH, SAMPLES, make_data
from benchmarks.torch_networks import TorchNetwork
from hpcnn.backends.numpy.backend import NUMPY
from hpcnn.comm.exchange.allreduce_exchange import AllreduceExchange
from hpcnn.comm.protocol import Array, Communicator
from hpcnn.data.rows import ArrayRows
from hpcnn.job import data, layers
from hpcnn.job import model as sections
from hpcnn.job.schema import DEFAULT_ARITHMETIC, Arithmetic, Job, Train
from hpcnn.runs.build import build_replica
from hpcnn.runs.spec import build_spec
from hpcnn.training.backend import Backend
from hpcnn.training.loader import Order, ShardLoader

Sharding = bool | Literal["auto"]
NOT_READ = data.Synthetic(kind="classification", samples=1)
"""The data of jobs here: all sides train on the same arrays."""


def hpcnn_steps(
    widths: tuple[int, ...],
    comm: Communicator,
    *,
    batch: int = BATCH,
    samples: int = SAMPLES,
    shards: int = 0,
    sharding: Sharding = "auto",
    bucket_mb: float | Literal["auto"] = "auto",
    order_free: bool = False,
    backend: Backend = NUMPY,
    arithmetic: Arithmetic = DEFAULT_ARITHMETIC,
    built: Callable[[Any], object] = lambda network: None,
) -> Iterator[None]:
    """Train for ever, one step at a time. Building is part of the first step.

    Args:
        widths: of the network, from the input to the output.
        comm: the ranks.
        batch: samples per step and rank.
        samples: in all.
        shards: `train.shards`; 0: one per rank.
        sharding: `train.optimizer_sharding`.
        bucket_mb: `train.bucket_mb`.
        order_free: sum gradients by MPI_Allreduce, in place of the exact exchange; each rank then updates everything.
        backend: what computes.
        arithmetic: `train.arithmetic`.
        built: told of the network.
    """
    train = Train(
        batch_size=batch * comm.size, shards=shards or comm.size, optimizer_sharding=sharding, bucket_mb=bucket_mb,
        arithmetic=arithmetic,
    )  # fmt: skip
    job = dense_job(widths, train)
    return job_steps(job, *make_data(widths, samples), comm, order_free=order_free, backend=backend, built=built)


def dense_job(widths: tuple[int, ...], train: Train) -> Job:
    """Return the job of a network of dense layers."""
    hidden = [layers.Dense(units=width, activation="relu") for width in widths[1:-1]]
    return Job(
        data=NOT_READ,
        model=sections.Model(layers=[*hidden, layers.Dense(units=widths[-1], activation="softmax")]),
        loss=sections.SparseCategoricalCrossentropy(),
        train=train,
    )


def entry_steps(
    network: TorchNetwork, comm: Communicator, backend: Backend, bucket_mb: float | Literal["auto"] = "auto"
) -> Iterator[None]:
    """Train a module of PyTorch for ever, one step at a time, one gradient shard per rank. See `hpcnn_steps`."""
    job = Job(
        data=NOT_READ,
        model=sections.Model(entry=network.entry, options=network.options),
        loss=sections.SparseCategoricalCrossentropy(),
        train=Train(batch_size=network.batch * comm.size, shards=comm.size, bucket_mb=bucket_mb),
    )
    return job_steps(job, *network.data(), comm, backend=backend)


def job_steps(
    job: Job,
    x: Array,
    y: Array,
    comm: Communicator,
    *,
    order_free: bool = False,
    backend: Backend = NUMPY,
    built: Callable[[Any], object] = lambda network: None,
) -> Iterator[None]:
    """Train a job on arrays for ever, one step at a time. Building is part of the first step. See `hpcnn_steps`."""
    batch_size, shards = job.train.batch_size, job.train.shards
    assert isinstance(batch_size, int)
    assert isinstance(shards, int)
    spec = build_spec(job, x.shape[1:], backend)
    built(spec.network)
    exchange = None
    if order_free:
        exchange = AllreduceExchange(shards, spec.network.layout.trainable_size, job.train.dtype, spec.stats_length)
    replica = build_replica(job, spec, comm, exchange=exchange)
    loader = ShardLoader(
        ArrayRows(x), ArrayRows(y), batch_size=batch_size, shards=shards,
        order=Order(0, shuffle=True, arithmetic=job.train.arithmetic), input_shape=x.shape[1:], dtype=np.float32,
    )  # fmt: skip
    step = 0
    while True:
        loader.start_epoch(step)
        for number in range(loader.steps_per_epoch):
            replica.train_step(step, partial(loader.shards, number), factor=1.0, stop=False)
            step += 1
            yield

"""From a job to what trains it: data, network, loss, optimizer, replica. The one place where the parts meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hpcnn.backends.numpy.backend import NUMPY
from hpcnn.comm.collectives import TreeReduction
from hpcnn.comm.exchange.allreduce_base import AllreduceBase
from hpcnn.comm.exchange.plan import check_shards
from hpcnn.comm.protocol import Array, Communicator, Compression, ReplicatedExchange
from hpcnn.core.critical_batch import NOISE_SCALE
from hpcnn.data.content import Content
from hpcnn.data.load import check_characters, load, prepare_samples
from hpcnn.data.reduction import Reduction
from hpcnn.data.rows import materialize
from hpcnn.data.samples import Samples, Scaling, Splits
from hpcnn.data.source import Source
from hpcnn.data.tables.recipe import Recipe
from hpcnn.data.target_rows import TargetPart, prepare_rows
from hpcnn.errors import JobError, ModelError
from hpcnn.job.output_checks import check_class_metrics, check_ending
from hpcnn.job.schema import Job, Train, sums_by_library
from hpcnn.job.shards import shards_of
from hpcnn.nn.loss import BoundLoss
from hpcnn.nn.several_losses import BoundLosses, OutputLoss
from hpcnn.optim.arithmetics import arithmetic
from hpcnn.optim.build import build_optimizer
from hpcnn.optim.optimizer import Optimizer
from hpcnn.optim.schedules import build_schedule
from hpcnn.runs.build_checks import check_monitors, check_words, settled, with_inputs
from hpcnn.runs.class_weights import balanced_weights, class_weights
from hpcnn.runs.reading import reading_notes, shard_loader, with_chunk_rows
from hpcnn.runs.spec import build_spec
from hpcnn.storage.checkpoint import load_checkpoint
from hpcnn.training.backend import Backend, ModelSpec
from hpcnn.training.batch_sums import BatchSums
from hpcnn.training.callbacks import Callback, EarlyStopping, ReduceOnPlateau
from hpcnn.training.data_cache import read_data
from hpcnn.training.kept import kept
from hpcnn.training.loader import PieceLoader
from hpcnn.training.noise_scale import NoiseScaleMeter
from hpcnn.training.notes import notes_on
from hpcnn.training.replica import Replica
from hpcnn.training.same_data import common_content
from hpcnn.training.staging import staged
from hpcnn.training.training import Training
from hpcnn.training.tuning import OverlapTrial, bucket_entries, shards_optimizer
from hpcnn.training.updater import Updater, make_updater


def _target_part(part: OutputLoss) -> TargetPart:
    loss, output_shape = part.bound, part.output.shape
    return TargetPart(part.name, loss.target_kind, part.target_shape, output_shape, loss.loss.name, loss.ignore_class)


def build_replica(
    job: Job,
    spec: ModelSpec,
    comm: Communicator,
    class_weights: Array | None = None,
    optimizer: Optimizer | None = None,
    exchange: ReplicatedExchange | None = None,
) -> Replica:
    """Return this rank's replica, its weights at their start, the same on all ranks.

    `optimizer` replaces the job's, and `exchange` the one that sums its gradients.
    """
    updater = _updater(job, spec, comm, optimizer or build_optimizer(job.optimizer), exchange)
    trial = OverlapTrial(updater.exchange, comm) if job.train.bucket_mb == "auto" and updater.exchange.overlap else None
    model = spec.backend.make_model(spec, updater.store.array)
    assert isinstance(job.train.shards, int)
    sums = BatchSums(comm, job.train.shards)
    replica = Replica(model, updater, seed=job.train.seed, class_weights=class_weights, trial=trial, batch_sums=sums)
    if job.model.initial_weights:
        _start_from(replica, Path(job.model.initial_weights))
    return replica


def _updater(
    job: Job, spec: ModelSpec, comm: Communicator, optimizer: Optimizer, exchange: ReplicatedExchange | None
) -> Updater:
    shards, layout = job.train.shards, spec.network.layout
    assert isinstance(shards, int)
    size = layout.trainable_size
    if exchange is None and sums_by_library(job):
        exchange = _exchange_of_library(job, spec, comm)
    if exchange is not None:
        exchange.activity = comm.activity
        store = comm.host_array(layout.size, job.train.dtype, shared=False)
        return Updater(store, layout, optimizer, exchange, arithmetic(job.train.arithmetic))
    survives = job.run.on_rank_loss == "continue"  # then nothing is on trial
    return make_updater(
        comm,
        layout,
        optimizer,
        shards=shards,
        dtype=job.train.dtype,
        stats_length=spec.stats_length,
        sharded=shards_optimizer_state(job, spec, comm),
        bucket=0 if survives and job.train.bucket_mb == "auto" else bucket_entries(job.train, size, comm.hosts),
        compression=_compression(job.train),
        arithmetic=arithmetic(job.train.arithmetic),
    )


def _exchange_of_library(job: Job, spec: ModelSpec, comm: Communicator) -> AllreduceBase:
    """Return the exchange of the library that the job's backend computes with."""
    assert isinstance(job.train.shards, int)
    shards, size, dtype = job.train.shards, spec.network.layout.trainable_size, job.train.dtype
    if job.backend == "keras":
        from hpcnn.comm.exchange.horovod_exchange import horovod_exchange

        return horovod_exchange(comm, shards, size, dtype, spec.stats_length)
    from hpcnn.backends.torch.backend import TorchBackend
    from hpcnn.backends.torch.group_exchange import group_exchange

    assert isinstance(spec.backend, TorchBackend)
    return group_exchange(comm, spec.backend.device, shards, size, dtype, spec.stats_length)


def shards_optimizer_state(job: Job, spec: ModelSpec, comm: Communicator) -> bool:
    """Return whether each rank updates its own parameters only: not where survivors need the whole state."""
    if sums_by_library(job) or job.run.on_rank_loss == "continue":
        return False
    return shards_optimizer(job.train, spec.network.layout.trainable_size, comm)


def _start_from(replica: Replica, path: Path) -> None:
    """Copy the parameters of a checkpoint that have the name and shape of one of ours; the others keep their start."""
    given = load_checkpoint(path).part("model")
    weights = replica.weights()
    fitting = {name for name, array in given.items() if name in weights and weights[name].shape == array.shape}
    if not fitting:
        raise ModelError(
            f"model.initial_weights: no parameter of {str(path)!r} has the name and shape of one of this model. "
            f"The file has: {', '.join(sorted(given))}. The model has: {', '.join(weights)}."
        )
    replica.load_weights({name: given[name] if name in fitting else array for name, array in weights.items()})


@dataclass(frozen=True)
class Measured:
    """What a run measured over its training data at its start."""

    scaling: Scaling | None
    recipe: Recipe | None
    target_scaling: Scaling | None = None


def load_checked(
    job: Job,
    base: Path,
    source: Source,
    backend: Backend,
    reduction: Reduction,
    hosts: int,
    measured: Measured | None = None,
) -> tuple[Job, ModelSpec, Splits]:
    """Return the data of a job as its model takes them, with the job and the model. Collective where `reduction` is.

    `measured` is to be used in place of what the data give.

    Raises:
        HpcnnError: the data do not suit the settings or the model.
    """
    train = job.train
    splits = load(
        job.data,
        seed=train.seed,
        arithmetic=train.arithmetic,
        dtype=train.dtype,
        base=base,
        reduction=reduction,
        source=source,
        scaling=measured.scaling if measured else None,
        target_scaling=measured.target_scaling if measured else None,
        recipe=measured.recipe if measured else None,
    )
    parts = splits.recipe.input_shapes() if splits.recipe and splits.recipe.columns else source.inputs
    job = with_inputs(settled(job, len(splits.train), hosts), parts)
    spec = build_spec(job, splits.train.x_shape, backend, splits.target_scaling)
    if isinstance(spec.loss, BoundLoss):
        check_ending(spec.loss.loss.name, spec.network.ending)
        check_class_metrics(spec.loss.loss.name, spec.network.ending, train.metrics, one_hot=job.data.one_hot)
    if not spec.network.layout.trainable_size:
        raise ModelError("the model has no trainable parameters: every layer is frozen, or has none. Nothing to train.")
    if not spec.network.outputs and (spec.loss.target_kind == "labels" or job.data.one_hot):
        check_characters(source.vocabulary, spec.network.output_shape[-1])
    check_words(splits.recipe, spec.loss, spec.network.output_shape, one_hot=job.data.one_hot)
    splits = replace(
        splits,
        train=prepared(job, spec, splits.train, "targets of the training data", reduction),
        validation=splits.validation
        and prepared(job, spec, splits.validation, "targets of the validation data", reduction),
    )
    return job, spec, splits


def build_training(
    job: Job,
    base: Path,
    comm: Communicator,
    backend: Backend = NUMPY,
    source: Source | None = None,
    check: Callable[[Content | None], Measured | None] | None = None,
    hosts: int = 0,
    order: Callable[[Source], Source] | None = None,
) -> Training:
    """Read the data and build everything that trains the job. Collective, and to be called within `agree`.

    `base` is the folder of the job file; `source` holds data in memory, in place of the job's. `check` is called with
    the content of the data before anything is built: it raises if they are the wrong ones, and may return a scaling and
    a recipe to use with them, in place of measuring these. `hosts` is the number of
    hosts at the run's start, by default that of `comm`. `order` puts the columns of a table in that of a run's start.
    """
    train = job.train
    if (shards := shards_of(job)) is not None:  # too many ranks: say so before any data is read
        check_shards(shards, comm.size)
    reduction = TreeReduction(comm)
    if source is None:
        section = staged(job.data, base, comm)
        source = read_data(section, base, comm)
        source = source if order is None else order(source)
    content = common_content(source, job.data, comm, base)
    measured = check(content) if check is not None else None
    job = with_chunk_rows(job, source.x)
    source = kept(source, job.data.keep, comm)
    job, spec, splits = load_checked(job, base, source, backend, reduction, hosts or comm.hosts, measured)
    if splits.validation is None:
        check_monitors(job)
    splits = replace(
        splits, notes=(*splits.notes, *reading_notes(job, splits), *notes_on(job, spec, splits, reduction))
    )
    weights = class_weights(job, spec, lambda classes: balanced_weights(splits.train, classes, reduction))
    loader = shard_loader(job, spec, splits, comm)
    meter = _noise_scale_meter(job, spec, splits, loader.steps_per_epoch, comm)
    validation = None if splits.validation is None else piece_loader(job, spec, splits.validation)
    return Training(
        job=job,
        splits=splits,
        spec=spec,
        replica=build_replica(job, spec, comm, weights),
        shards=loader,
        validation=validation,
        schedule=build_schedule(
            job.schedule,
            steps_per_epoch=loader.steps_per_epoch,
            epochs=train.epochs,
            arithmetic=arithmetic(train.arithmetic),
        ),
        monitor=job.run.monitor or ("val_loss" if validation is not None else "loss"),
        callbacks=_steering(job) | ({NOISE_SCALE: meter} if meter else {}),
        noise_scale=meter,
        class_weights=weights,
        content=content,
    )


def prepared(job: Job, spec: ModelSpec, samples: Samples, what: str, reduction: Reduction) -> Samples:
    """Return samples with targets as the job's loss wants them. Collective where `reduction` is.

    Raises:
        DataError: they do not suit it.
        JobError: they have weights, but the loss compares samples with each other.
    """
    if samples.weights is not None and spec.loss.synchronized:
        assert isinstance(spec.loss, BoundLoss)
        raise JobError(
            f"the samples have weights, but the loss {spec.loss.loss.name!r} compares samples with each other and "
            "takes none. Leave out the weights, or choose another loss."
        )
    if isinstance(spec.loss, BoundLosses):
        samples = prepare_rows(samples, [_target_part(part) for part in spec.loss.parts], what, reduction)
        y = samples.y
        return replace(samples, y=materialize(y, np.int64 if y.dtype.kind in "iu" else job.train.dtype))
    return prepare_samples(
        samples,
        kind=spec.loss.target_kind,
        one_hot=job.data.one_hot,
        output_shape=spec.network.output_shape,
        loss_name=spec.loss.loss.name,
        ignore_class=spec.loss.ignore_class,
        what=what,
        reduction=reduction,
    )


def piece_loader(job: Job, spec: ModelSpec, samples: Samples) -> PieceLoader:
    """Return the loader that evaluates `samples`."""
    return PieceLoader(
        samples.x,
        samples.y,
        piece_size=job.train.eval_batch_size,
        input_shape=spec.network.input_shape,
        dtype=job.train.dtype,
        weights=samples.weights,
    )


def _steering(job: Job) -> dict[str, Callback]:
    callbacks: dict[str, Callback] = {}
    if job.train.early_stopping is not None:
        callbacks["early_stopping"] = EarlyStopping(job.train.early_stopping)
    if job.train.reduce_on_plateau is not None:
        callbacks["reduce_on_plateau"] = ReduceOnPlateau(job.train.reduce_on_plateau)
    return callbacks


def _noise_scale_meter(
    job: Job, spec: ModelSpec, splits: Splits, steps_per_epoch: int, comm: Communicator
) -> NoiseScaleMeter | None:
    """Return what measures the noise scale.

    None where nothing would be measured, or the loss is no mean over samples that are independent and weigh alike.
    """
    assert isinstance(job.train.shards, int)
    independent = splits.train.weights is None and not spec.loss.synchronized
    every = job.run.noise_scale_every
    if not 0 < every <= job.train.epochs * steps_per_epoch or job.train.shards == 1 or not independent:
        return None
    return NoiseScaleMeter(comm, every)


def _compression(train: Train) -> Compression | None:
    if train.compression == "none":
        return None
    assert isinstance(train.compression_groups, int)
    return Compression(train.compression, train.compression_groups)

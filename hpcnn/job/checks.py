"""Checks that the settings of a job are consistent with each other."""

from __future__ import annotations

import math
from collections.abc import Iterator

from hpcnn.errors import JobError, nearest
from hpcnn.job import data as sources
from hpcnn.job import layers as sections
from hpcnn.job import model as models
from hpcnn.job.data_checks import check_data, has_validation
from hpcnn.job.losses_checks import check_losses
from hpcnn.job.model_checks import all_layers, check_model
from hpcnn.job.model_options import takes_batch_statistics
from hpcnn.job.optimizer import Constant, Sgd
from hpcnn.job.schema import MOST_SHARDS, Job, Train, sums_by_library
from hpcnn.job.section import tag_of
from hpcnn.job.target_checks import check_targets

DIGITS_SAMPLES = 1797
TABLE_METRICS = ("confusion_matrix",)
"""Metrics that are not a single number and so can't be monitored."""
COLLECTED_METRICS = ("auc",)
"""Metrics of evaluations alone: they need all samples at once."""


def check_job(job: Job) -> None:
    """Raise JobError for the first inconsistency between settings of `job`."""
    checks = (
        check_model,
        _check_data,
        check_losses,
        check_targets,
        _check_optimizer,
        _check_warmup,
        _check_library,
        _check_sums_by_library,
    )
    for check in checks:
        check(job)
    check_compression(job.train)
    for key, monitor in monitors(job):
        _check_monitor(job, key, monitor)


def produced_values(job: Job) -> list[str]:
    """Return the names of all numbers that an epoch of `job` reports, which callbacks can monitor."""
    values = ["loss", *(f"{name}_loss" for name in job.losses)]
    values += (metric for metric in dict.fromkeys(job.train.metrics) if metric not in TABLE_METRICS)
    for name, loss in job.losses.items():
        values += (f"{name}_{metric}" for metric in dict.fromkeys(loss.metrics) if metric not in TABLE_METRICS)
    of_steps = [value for value in values if value not in COLLECTED_METRICS]
    return of_steps + [f"val_{value}" for value in values] if has_validation(job.data) else of_steps


def _check_data(job: Job) -> None:
    check_data(job.data)


def _check_optimizer(job: Job) -> None:
    optimizer = job.optimizer
    if not isinstance(optimizer, Sgd):
        return
    if optimizer.nesterov and not optimizer.momentum:
        raise JobError("optimizer.nesterov = true needs momentum: set optimizer.momentum, for example to 0.9")
    if optimizer.decay and not isinstance(job.schedule, Constant):
        raise JobError(
            f"optimizer.decay = {optimizer.decay:g} and schedule.name = {tag_of(job.schedule)!r} both lower the "
            "learning rate: keep one of them"
        )


def _check_warmup(job: Job) -> None:
    schedule, epochs = job.schedule, job.train.epochs
    length = epochs if schedule.unit == "epoch" else _most_steps(job)
    if schedule.warmup > length:
        raise JobError(
            f"schedule.warmup = {schedule.warmup:g} {schedule.unit}s is longer than the training, at most {length} "
            f"{schedule.unit}s: shorten it, or raise train.epochs = {epochs}"
        )


def _most_steps(job: Job) -> float:
    """Return an upper bound of the number of steps, infinite if the job does not give the number of samples."""
    if job.train.batch_size == "full":
        return job.train.epochs
    match job.data:
        case sources.Digits():
            samples = DIGITS_SAMPLES
        case sources.Synthetic() | sources.Shapes() | sources.Heat() | sources.Series():
            samples = job.data.samples
        case _:
            return math.inf
    return job.train.epochs * math.ceil(samples / job.train.batch_size)


_LIBRARIES = {"keras": ("Keras", "keras.RematScope"), "torch": ("PyTorch", "torch.utils.checkpoint")}
"""By backend, the name of the library, and what in it does without activations until the backward pass."""


def _check_library(job: Job) -> None:
    """Check what one library has and others have not."""
    if isinstance(job.loss, models.Function) and not (job.backend == "torch" and job.model.entry):
        raise JobError(
            'loss.name = "function" is for backend = "torch" with model.entry, in whose Python module the function is. '
            "Set them, or choose another loss."
        )
    if job.backend == "numpy":
        return
    library, remedy = _LIBRARIES[job.backend]
    if isinstance(job.loss, models.Contrastive):
        raise JobError(
            f'loss.name = "contrastive" compares all samples of a batch with each other, but with backend = '
            f'"{job.backend}" each gradient shard is computed by itself. Set backend = "numpy", or choose another loss.'
        )
    if job.train.checkpoint_activations:
        raise JobError(
            f'train.checkpoint_activations = true is for NumPy mode, but backend = "{job.backend}": remove it. In a '
            f"model of your own, {remedy} does the same."
        )
    if job.backend == "torch" and job.torch.autocast != "none" and job.train.dtype != "float32":
        raise JobError(
            f'torch.autocast = "{job.torch.autocast}" is for weights of type float32, but train.dtype = '
            f'"{job.train.dtype}": remove one of them'
        )
    places = [
        place
        for place, layer in all_layers(job.model.layers)
        if isinstance(layer, sections.BatchNormalization) and layer.trainable and layer.statistics == "batch"
    ]
    if job.model.name and takes_batch_statistics(job.model.name, job.model.options):
        places.append("model.options")
    for place in places:
        if job.train.shards != 1:
            raise JobError(
                f'{place}.statistics = "batch" is for NumPy mode: {library} takes those of each gradient shard. Set it '
                'to "shard", or train.shards to 1, or backend to "numpy".'
            )


def _check_sums_by_library(job: Job) -> None:
    setting = sums_by_library(job)
    if not setting:
        return
    for key, asked, value in (
        ("train.optimizer_sharding", job.train.optimizer_sharding is True, "true"),
        ("train.compression", job.train.compression != "none", f'"{job.train.compression}"'),
        ("run.on_rank_loss", job.run.on_rank_loss == "continue", '"continue"'),
    ):
        if asked:
            raise JobError(
                f'{key} = {value} is not supported with {setting}: remove it, or set {setting.split()[0]} to "mpi"'
            )


def check_compression(train: Train) -> None:
    """Raise JobError if ``train.compression_groups`` is not what the compression and the shards allow."""
    groups = train.compression_groups
    if groups == "auto":
        return
    if train.compression == "none":
        raise JobError(
            f'train.compression_groups = {groups}, but train.compression = "none", so nothing is rounded: set it '
            'to "auto", or the compression to "bf16" or "fp16"'
        )
    most = MOST_SHARDS if train.shards == "auto" else train.shards
    if groups & (groups - 1) or groups > most:
        limit = "" if train.shards == "auto" else f", at most train.shards = {train.shards}"
        raise JobError(
            f"train.compression_groups = {groups}: expected a power of two{limit}. Each group is a subtree of shards "
            f'whose sum is rounded; {1 << (min(groups, most).bit_length() - 1)} would do, or "auto".'
        )


def monitors(job: Job) -> Iterator[tuple[str, str]]:
    """Yield each setting that monitors a value, and the name of the value."""
    if job.train.early_stopping:
        yield "train.early_stopping.monitor", job.train.early_stopping.monitor
    if job.train.reduce_on_plateau:
        yield "train.reduce_on_plateau.monitor", job.train.reduce_on_plateau.monitor
    if job.run.monitor:
        yield "run.monitor", job.run.monitor


def _check_monitor(job: Job, key: str, monitor: str) -> None:
    known = produced_values(job)
    if monitor in known:
        return
    base = monitor.removeprefix("val_")
    if base.endswith(TABLE_METRICS):
        why = f"{base} is a table, not a number, and can't be monitored."
    elif base in COLLECTED_METRICS and base in job.train.metrics:
        why = f"{base} is computed of validation data alone"
        why += f": monitor val_{base}." if has_validation(job.data) else ", of which there are none."
    elif base in known:
        why = "this job has no validation data: set data.validation_fraction, or monitor a value of the training."
    else:
        why = f"this job computes no such value: see train.metrics.{nearest(monitor, known)}"
    raise JobError(f'{key} = "{monitor}": {why} Known: {", ".join(known)}.')

"""Checks that the settings of a job are consistent with each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

from hpcnn.errors import JobError, nearest
from hpcnn.job import data as sources
from hpcnn.job import layers as sections
from hpcnn.job import model as models
from hpcnn.job.optimizer import Constant, Sgd
from hpcnn.job.output_checks import check_class_metrics, check_ending
from hpcnn.job.schema import MOST_SHARDS, Job, Train, sums_by_horovod

DIGITS_SAMPLES = 1797
TABLE_METRICS = ("confusion_matrix",)
"""Metrics that are not a single number and so can't be monitored."""


def check_job(job: Job) -> None:
    """Raise JobError for the first inconsistency between settings of `job`."""
    checks = (_check_model, _check_data, _check_targets, _check_loss, _check_optimizer, _check_warmup, _check_horovod)
    for check in checks:
        check(job)
    check_compression(job.train)
    for key, monitor in monitors(job):
        _check_monitor(job, key, monitor)


def has_validation(data: sources.Data) -> bool:
    """Return whether a source with these settings has validation data."""
    given = isinstance(data, sources.Memory) and data.validation_samples > 0
    return given or data.validation_fraction > 0 or any(_validation_files(data).values())


def produced_values(job: Job) -> list[str]:
    """Return the names of all numbers that an epoch of `job` reports, which callbacks can monitor."""
    values = ["loss", *(metric for metric in dict.fromkeys(job.train.metrics) if metric not in TABLE_METRICS)]
    return values + [f"val_{value}" for value in values] if has_validation(job.data) else values


def _validation_files(data: sources.Data) -> dict[str, str]:
    keys = ("validation_path", "validation_x_path", "validation_y_path", "validation_images", "validation_labels")
    return {key: getattr(data, key) for key in keys if hasattr(data, key)}


def _all_layers(layers: Sequence[sections.Layer], place: str = "model.layers") -> Iterator[tuple[str, sections.Layer]]:
    for number, layer in enumerate(layers):
        yield f"{place}.{number}", layer
        yield from _all_layers(layer.children, f"{place}.{number}.layers")


def _check_model(job: Job) -> None:
    model = job.model
    if model.layers and model.entry:
        raise JobError("[model] has both layers and entry: keep one of them")
    if not model.layers and not model.entry:
        raise JobError(
            '[model] has neither layers nor entry. Add, for example: layers = [{ type = "dense", units = 10 }]'
        )
    if model.options and not model.entry:
        raise JobError("model.options are arguments for model.entry, which is not given: remove them, or add entry")
    module, colon, function = model.entry.partition(":")
    if model.entry and not (colon and function.isidentifier() and all(p.isidentifier() for p in module.split("."))):
        raise JobError(f'model.entry = "{model.entry}": expected "package.module:function"')
    for place, layer in _all_layers(model.layers):
        if isinstance(layer, sections.Reshape):
            _check_shape(f"{place}.shape", layer.shape)


def _check_shape(key: str, shape: Sequence[int]) -> None:
    if any(size < 1 and size != -1 for size in shape):
        raise JobError(f"{key} = {list(shape)}: expected sizes >= 1, one of which may be -1 for the rest")
    if list(shape).count(-1) > 1:
        raise JobError(f"{key} = {list(shape)}: only one size may be -1, since the others determine it")


def _check_data(job: Job) -> None:
    files = _validation_files(job.data)
    given = [key for key, value in files.items() if value]
    if job.data.validation_fraction > 0 and given:
        empty = ", ".join(f'data.{key} = ""' for key in given)
        raise JobError(
            f"data.validation_fraction = {job.data.validation_fraction:g} and data.{given[0]} both give validation "
            f"data: set the fraction to 0, or {empty}"
        )
    if len(files) == 2 and len(given) == 1:  # inputs in one file, targets in another
        other = next(key for key in files if key not in given)
        raise JobError(f"data.{given[0]} needs data.{other}: give both, or neither")


def _label_kind(data: sources.Data) -> Literal["classes", "numbers", "unknown"]:
    """Return the kind of targets of a source, if its settings determine it."""
    match data:
        case sources.Digits() | sources.Idx():
            return "classes"
        case sources.Synthetic():
            return "classes" if data.kind == "classification" else "numbers"
        case sources.Sklearn():
            return "numbers" if data.name in ("diabetes", "linnerud") else "classes"
    return "unknown"


def _check_targets(job: Job) -> None:
    loss, one_hot, labels = str(_tag(job.loss)), job.data.one_hot, _label_kind(job.data)
    source = f"the targets of source {_tag(job.data)!r}"
    if loss == "sparse_categorical_crossentropy" and one_hot:
        raise JobError(
            'data.one_hot = true does not fit loss.name = "sparse_categorical_crossentropy", which takes integer '
            'labels: set one_hot to false, or the loss to "categorical_crossentropy"'
        )
    if loss == "categorical_crossentropy" and labels == "classes" and not one_hot:
        raise JobError(
            f'loss.name = "categorical_crossentropy" takes one-hot targets, but {source} are integer labels: set '
            'data.one_hot = true, or the loss to "sparse_categorical_crossentropy"'
        )
    if labels == "numbers" and one_hot:
        raise JobError(f"data.one_hot = true needs integer labels, but {source} are numbers: set it to false")
    if labels == "numbers" and isinstance(job.loss, models.ClassLoss):
        raise JobError(f'loss.name = "{loss}" needs classes, but {source} are numbers: use "mse", "mae" or "huber"')


def _check_loss(job: Job) -> None:
    loss = job.loss
    if isinstance(loss, models.ClassLoss):
        weights = loss.class_weights
        if isinstance(weights, list) and not (any(weights) and all(0 <= w < math.inf for w in weights)):
            raise JobError(f"loss.class_weights = {weights}: expected numbers >= 0, not all of them 0")
    ending = _ending(job.model.layers)
    check_ending(_tag(loss), ending)
    check_class_metrics(_tag(loss), ending, job.train.metrics, one_hot=job.data.one_hot)


def _ending(layers: Sequence[sections.Layer]) -> str | None:
    """Return the last activation; None if an entry determines it."""
    for layer in reversed(layers):
        while isinstance(layer, sections.TimeDistributed) or getattr(layer, "merge_mode", "") == "concat":
            (layer,) = layer.children  # each of its outputs is one of that layer
        if isinstance(layer, sections.Dense | sections.ActivationLayer | sections.SimpleRNN):
            return layer.activation
        if not isinstance(layer, sections.Flatten | sections.Reshape | sections.Dropout):
            break
    return "linear" if layers else None


def _check_optimizer(job: Job) -> None:
    optimizer = job.optimizer
    if not isinstance(optimizer, Sgd):
        return
    if optimizer.nesterov and not optimizer.momentum:
        raise JobError("optimizer.nesterov = true needs momentum: set optimizer.momentum, for example to 0.9")
    if optimizer.decay and not isinstance(job.schedule, Constant):
        raise JobError(
            f"optimizer.decay = {optimizer.decay:g} and schedule.name = {_tag(job.schedule)!r} both lower the "
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
        case sources.Synthetic():
            samples = job.data.samples
        case _:
            return math.inf
    return job.train.epochs * math.ceil(samples / job.train.batch_size)


def _check_horovod(job: Job) -> None:
    if not sums_by_horovod(job):
        return
    for key, asked, value in (
        ("train.optimizer_sharding", job.train.optimizer_sharding is True, "true"),
        ("train.compression", job.train.compression != "none", f'"{job.train.compression}"'),
        ("run.on_rank_loss", job.run.on_rank_loss == "continue", '"continue"'),
    ):
        if asked:
            raise JobError(
                f'{key} = {value} is not supported with keras.comm = "horovod": remove it, or set keras.comm to "mpi"'
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
    if base in TABLE_METRICS:
        why = f"{base} is a table, not a number, and can't be monitored."
    elif base in known:
        why = "this job has no validation data: set data.validation_fraction, or monitor a value of the training."
    else:
        why = f"this job computes no such value: see train.metrics.{nearest(monitor, known)}"
    raise JobError(f'{key} = "{monitor}": {why} Known: {", ".join(known)}.')


def _tag(section: object) -> str:
    return str(section.__struct_config__.tag)  # type: ignore[attr-defined]

"""Checks that the settings of a job are consistent with each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

from hpcnn.errors import JobError, nearest
from hpcnn.job import data as sources
from hpcnn.job import layers as sections
from hpcnn.job import model as models
from hpcnn.job.data_checks import check_data, has_validation
from hpcnn.job.losses_checks import check_losses
from hpcnn.job.model_options import check_options, takes_batch_statistics
from hpcnn.job.optimizer import Constant, Sgd
from hpcnn.job.output_checks import check_class_metrics, check_ending
from hpcnn.job.schema import MOST_SHARDS, Job, Train, sums_by_library

DIGITS_SAMPLES = 1797
TABLE_METRICS = ("confusion_matrix",)
"""Metrics that are not a single number and so can't be monitored."""
COLLECTED_METRICS = ("auc",)
"""Metrics of evaluations alone: they need all samples at once."""


_OF_CLASSES = (models.ClassLoss, models.Ctc, models.Dice, models.Iou, models.KLDivergence, models.Hinge)
"""Losses that make no sense for targets that are numbers."""


def check_job(job: Job) -> None:
    """Raise JobError for the first inconsistency between settings of `job`."""
    checks = (
        _check_model,
        _check_data,
        check_losses,
        _check_targets,
        _check_loss,
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


def _all_layers(layers: Sequence[sections.Layer], place: str = "model.layers") -> Iterator[tuple[str, sections.Layer]]:
    for number, layer in enumerate(layers):
        yield f"{place}.{number}", layer
        yield from _all_layers(layer.children, f"{place}.{number}.layers")


def _check_model(job: Job) -> None:
    model = job.model
    given = [key for key in ("layers", "name", "entry") if getattr(model, key)]
    if len(given) > 1:
        raise JobError(f"[model] has both {given[0]} and {given[1]}: keep one of them")
    if not given:
        raise JobError(
            '[model] has neither layers nor name nor entry. Add, for example: layers = [{ type = "dense", units = 10 }]'
        )
    if model.inputs and model.input_shape is not None:
        raise JobError(
            "[model] has both inputs and input_shape: remove input_shape, which follows from those of the inputs"
        )
    if (model.inputs or model.outputs) and not model.layers:
        raise JobError(
            f"model.inputs and model.outputs are for layers: remove them, what model.{given[0]} gives has its own"
        )
    if model.options and model.layers:
        raise JobError(
            "model.options are arguments for model.entry or sizes for model.name, which are not given: remove them, or "
            "add one of the two"
        )
    if model.name:
        check_options(model.name, model.options)
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
    check_data(job.data)


def _label_kind(data: sources.Data) -> Literal["classes", "numbers", "unknown"]:
    """Return the kind of targets of a source, if its settings determine it."""
    match data:
        case sources.Digits() | sources.Idx() | sources.Cifar() | sources.Shapes() | sources.TextFiles():
            return "classes"
        case sources.Images() if not data.table:
            return "classes"
        case sources.Heat() | sources.Series():
            return "numbers"
        case sources.Synthetic():
            return "classes" if data.kind == "classification" else "numbers"
        case sources.Sklearn():
            return "numbers" if data.name in ("diabetes", "linnerud") else "classes"
    return "unknown"


def _check_targets(job: Job) -> None:
    if job.loss is None:  # of data with several targets nothing is known
        return
    loss, one_hot, labels = str(_tag(job.loss)), job.data.one_hot, _label_kind(job.data)
    source = f"the targets of source {_tag(job.data)!r}"
    if loss in ("sparse_categorical_crossentropy", "ctc") and one_hot:
        raise JobError(
            f'data.one_hot = true does not fit loss.name = "{loss}", which takes integer '
            'labels: set one_hot to false, or the loss to "categorical_crossentropy"'
        )
    if loss in ("categorical_crossentropy", "categorical_focal_crossentropy") and labels == "classes" and not one_hot:
        raise JobError(
            f'loss.name = "{loss}" takes one-hot targets, but {source} are integer labels: set '
            'data.one_hot = true, or the loss to "sparse_categorical_crossentropy"'
        )
    if labels == "numbers" and one_hot:
        raise JobError(f"data.one_hot = true needs integer labels, but {source} are numbers: set it to false")
    if labels == "numbers" and isinstance(job.loss, _OF_CLASSES):
        raise JobError(f'loss.name = "{loss}" needs classes, but {source} are numbers: use "mse", "mae" or "huber"')


def _check_loss(job: Job) -> None:
    if job.loss is None:  # the network tells what its outputs end in
        return
    ending = _ending(job.model.layers)
    check_ending(_tag(job.loss), ending)
    check_class_metrics(_tag(job.loss), ending, job.train.metrics, one_hot=job.data.one_hot)


def _ending(layers: Sequence[sections.Layer]) -> str | None:
    """Return the last activation; None if only the network can tell, when it is built."""
    for layer in reversed(layers):
        while isinstance(layer, sections.TimeDistributed) or getattr(layer, "merge_mode", "") == "concat":
            (layer,) = layer.children  # each of its outputs is one of that layer
        if isinstance(layer, sections.Dense | sections.SlidingSection | sections.ActivationLayer | sections.SimpleRNN):
            return layer.activation
        if isinstance(
            layer, sections.Residual | sections.LayerNorm | sections.LSTM | sections.GRU | sections.Bidirectional
        ):
            return "linear"
        if not isinstance(layer, sections.Flatten | sections.Reshape | sections.Dropout) or layer.inputs:
            return None
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
        for place, layer in _all_layers(job.model.layers)
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


def _tag(section: object) -> str:
    return str(section.__struct_config__.tag)  # type: ignore[attr-defined]

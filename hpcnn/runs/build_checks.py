"""What a job says of its data that shows only when they are read: checks, and settings that follow from them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from hpcnn.data.tables.recipe import Recipe
from hpcnn.data.tables.target_words import check_classes
from hpcnn.errors import DataError, JobError
from hpcnn.job.checks import check_compression, monitors
from hpcnn.job.schema import Job
from hpcnn.job.shards import shards_of
from hpcnn.nn.loss import BoundLoss
from hpcnn.nn.network import same_sample_shape
from hpcnn.training.model import AnyLoss


def check_monitors(job: Job) -> None:
    """Raise JobError if a setting watches a value of validation data, of which the source turned out to have none."""
    for key, value in monitors(job):
        if value.startswith("val_"):
            raise JobError(
                f'{key} = "{value}", but there are no validation data: set data.validation_fraction, or monitor '
                f'"{value.removeprefix("val_")}"'
            )


def check_words(recipe: Recipe | None, loss: AnyLoss, output_shape: tuple[int, ...], *, one_hot: bool) -> None:
    """Raise DataError if a target is words, but its loss takes numbers, or the model has fewer outputs than words."""
    if recipe is None or not recipe.has_words:
        return
    if isinstance(loss, BoundLoss):
        for target in recipe.targets:
            labels = loss.target_kind == "labels" or one_hot
            check_classes(target, loss.loss.name, labels=labels, outputs=output_shape[-1])
        return
    start = 0
    for part in loss.parts:
        stop = start + math.prod(part.target_shape)
        for target in recipe.targets[start:stop]:
            check_classes(target, part.bound.loss.name, labels=part.labels, outputs=part.output.shape[-1])
        start = stop


def with_inputs(job: Job, given: Mapping[str, tuple[int, ...]]) -> Job:
    """Return the job with the inputs that the data name, where it leaves them out; `given` are their shapes.

    Raises:
        DataError: it has others.
    """
    known = {name: tuple(shape) for name, shape in job.model.inputs.items()}
    if not given or job.model.entry:
        return job
    if known and list(known) != list(given):
        raise DataError(
            f"the data have the inputs {', '.join(given)}, in this order, but model.inputs has {', '.join(known)}. "
            "Give both the same, or leave model.inputs out."
        )
    for name, shape in known.items():
        if not same_sample_shape(shape, given[name]):
            raise DataError(
                f"model.inputs.{name} = {list(shape)}, but a sample of the data has shape {given[name]}. Correct it, "
                "or leave model.inputs out."
            )
    inputs = {name: list(shape) for name, shape in (known or given).items()}
    model = msgspec.structs.replace(job.model, inputs=inputs, input_shape=None)
    return msgspec.structs.replace(job, model=model)


def settled(job: Job, samples: int, hosts: int) -> Job:
    """Return the job with automatic shards and compression groups as numbers.

    `samples` counts its training data; `hosts` those at the run's start.
    """
    shards = shards_of(job, samples)
    assert shards is not None
    train = msgspec.structs.replace(job.train, shards=shards)
    check_compression(train)
    if train.compression != "none" and train.compression_groups == "auto":
        train = msgspec.structs.replace(train, compression_groups=1 << (min(hosts, shards).bit_length() - 1))
    return msgspec.structs.replace(job, train=train)

"""Checks of `[loss]` and `[losses]`: one of the two, and one section for each of several outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping

from hpcnn.errors import JobError, nearest
from hpcnn.job import model as models
from hpcnn.job.schema import Job

OF_ANY_UNIT = ("mse", "mae", "huber", "log_cosh")
"""Losses of differences, which targets may be scaled for."""


def check_losses(job: Job) -> None:
    """Raise JobError for the first thing about losses that does not fit the rest of the job."""
    if job.data.scale_targets != "none":
        _check_scaled(job)
    if job.losses and job.data.window is not None:
        raise JobError("data.window makes targets of one output, but the job has [losses]: keep one [loss]")
    if job.losses and job.loss is not None:
        raise JobError(
            "the job has both [loss] and [losses]: keep [loss] for one output, or [losses] for those of model.outputs"
        )
    if job.loss is not None:
        _check_one(job.loss, job.model.outputs)
    else:
        _check_several(job)


def _check_scaled(job: Job) -> None:
    """Raise JobError unless the loss is one of numbers that may have any unit."""
    name = None if job.loss is None else type(job.loss).__struct_config__.tag
    if name not in OF_ANY_UNIT:
        given = "the job has [losses]" if name is None else f"the loss is {name!r}"
        raise JobError(
            f'data.scale_targets = "{job.data.scale_targets}" is for one [loss] of numbers, {", ".join(OF_ANY_UNIT)}, '
            f'but {given}: set scale_targets to "none"'
        )
    if job.data.one_hot:
        raise JobError(
            "data.scale_targets is for numbers, but data.one_hot makes rows of labels: leave one of them out"
        )


def loss_sections(job: Job) -> Mapping[str, models.Loss]:
    """Return the sections of losses by their place in the job file."""
    if job.loss is not None:
        return {"loss": job.loss}
    return {f"losses.{name}": section for name, section in job.losses.items()}


def _check_one(loss: models.Loss, outputs: list[str]) -> None:
    if outputs:
        raise JobError(
            f"model.outputs names {', '.join(map(repr, outputs))}, but the job has [loss]. Give each output a section "
            f"of its own, as [losses.{outputs[0]}], or remove model.outputs."
        )
    if loss.metrics or loss.weight != 1:
        key = "metrics" if loss.metrics else "weight"
        instead = "use train.metrics" if loss.metrics else "remove it, or change the learning rate"
        raise JobError(f"loss.{key} is for the sections of several [losses]: {instead}")
    check_class_weights("loss", loss)


def check_class_weights(place: str, loss: models.Loss) -> None:
    """Raise JobError if the weights of the classes are none, or don't go with ignored labels."""
    if not isinstance(loss, models.ClassLoss):
        return
    weights = loss.class_weights
    if isinstance(weights, list) and not (any(weights) and all(0 <= w < math.inf for w in weights)):
        raise JobError(f"{place}.class_weights = {weights}: expected numbers >= 0, not all of them 0")
    ignored = getattr(loss, "ignore_class", None)
    if ignored is not None and weights != "none":
        raise JobError(
            f"{place}.ignore_class = {ignored} and {place}.class_weights = {weights!r} can't go together: remove one "
            "of them. A class with the weight 0 does not count either."
        )


def _check_several(job: Job) -> None:
    if not job.losses:
        raise JobError("[losses] is empty: give each of model.outputs a section, as [losses.digit]")
    outputs = job.model.outputs
    if not outputs and not job.model.entry:
        raise JobError(f"[losses] needs model.outputs, the names of layers, as outputs = {list(job.losses)}")
    for name in job.losses if outputs else ():
        if name not in outputs:
            raise JobError(
                f"[losses.{name}] is no output.{nearest(name, outputs)} model.outputs: {', '.join(outputs)}."
            )
    for name in outputs:
        if name not in job.losses:
            raise JobError(f"the output {name!r} has no loss: add a section [losses.{name}]")
    if job.train.metrics:
        raise JobError("train.metrics does not say of which output: give metrics in the sections of [losses]")
    if job.data.one_hot:
        raise JobError(
            "data.one_hot = true is for one output: remove it, and use losses of labels, as "
            "sparse_categorical_crossentropy"
        )
    for name, loss in job.losses.items():
        if isinstance(loss, models.Ctc):
            raise JobError(
                f'losses.{name}.name = "ctc": its targets have any length, so that they can\'t share a row with those '
                "of other outputs. Use it as the only [loss]."
            )
        if isinstance(loss, models.Contrastive):
            raise JobError(
                f'losses.{name}.name = "contrastive": it compares the samples of a batch with each other, and is '
                "for one output. Use it as the only [loss]."
            )
        if "auc" in loss.metrics:
            raise JobError(f'losses.{name}.metrics has "auc", which is for one output: remove it')
        if getattr(loss, "class_weights", "none") != "none":
            raise JobError(
                f"losses.{name}.class_weights: classes are weighed in the only [loss] alone. Remove it; "
                f"losses.{name}.weight weighs the output."
            )

"""Checks that targets, loss, metrics and the last activation fit, as far as the job tells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from hpcnn.errors import JobError
from hpcnn.job import data as sources
from hpcnn.job import layers as sections
from hpcnn.job import model as models
from hpcnn.job.output_checks import check_class_metrics, check_ending
from hpcnn.job.schema import Job
from hpcnn.job.section import tag_of

_OF_CLASSES = (models.ClassLoss, models.Ctc, models.Dice, models.Iou, models.KLDivergence, models.Hinge)
"""Losses that make no sense for targets that are numbers."""


def check_targets(job: Job) -> None:
    """Raise JobError for the first of them that does not fit the others."""
    if job.loss is None:  # of data with several targets nothing is known, and the network tells what its outputs end in
        return
    _check_kind(job, job.loss)
    ending = _ending(job.model.layers)
    check_ending(tag_of(job.loss), ending)
    check_class_metrics(tag_of(job.loss), ending, job.train.metrics, one_hot=job.data.one_hot)


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


def _check_kind(job: Job, section: models.Loss) -> None:
    loss, one_hot, labels = tag_of(section), job.data.one_hot, _label_kind(job.data)
    source = f"the targets of source {tag_of(job.data)!r}"
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
    if labels == "numbers" and isinstance(section, _OF_CLASSES):
        raise JobError(f'loss.name = "{loss}" needs classes, but {source} are numbers: use "mse", "mae" or "huber"')


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

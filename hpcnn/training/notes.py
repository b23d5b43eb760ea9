"""What a user should hear of a job and its data before the training: each is fine, but values will mislead."""

from __future__ import annotations

from collections.abc import Iterator

from hpcnn.comm.collectives import TreeReduction
from hpcnn.data.load import absent_classes, one_class_each
from hpcnn.data.samples import Splits
from hpcnn.job.schema import Job
from hpcnn.training.backend import ModelSpec

_MOST_LISTED = 10
_OF_CLASSES = ("accuracy", "precision", "recall", "f1", "mean_iou")
"""Metrics of labels that have the name of a metric of classes."""


def notes_on(job: Job, spec: ModelSpec, splits: Splits, reduction: TreeReduction) -> Iterator[str]:
    """Yield warnings of a model and the samples that it is to be trained on. Collective."""
    samples = splits.train
    loss, outputs = spec.loss.loss, spec.network.output_shape[-1]
    labels, classes = loss.target_kind == "labels", max(2, outputs)
    if "top_k_accuracy" in job.train.metrics and job.train.top_k >= outputs:
        yield f"train.top_k = {job.train.top_k} of {outputs} classes: top_k_accuracy is 1 for any model. Lower it."
    if spec.layout.collected and splits.validation is None:
        yield (
            f"train.metrics has {spec.layout.collected[0].name}, which is computed of validation data alone, and there "
            "are none: the training will not report it. Set data.validation_fraction, or use hpcnn.evaluate."
        )
    counted = [metric.name for metric in spec.layout.metrics if metric.multilabel and metric.name in _OF_CLASSES]
    if counted and not loss.name.startswith("binary_") and one_class_each(samples.y, reduction):
        yield (
            f"each sample of the training data has one class, but behind a sigmoid with the loss {loss.name} "
            f"{' and '.join(counted)} count each of {outputs} outputs for itself. For one class a sample use softmax, "
            "categorical_crossentropy, or integer labels with data.one_hot = true."
        )
    if not (labels or job.data.one_hot or loss.name.endswith("crossentropy")):
        return
    absent = absent_classes(samples.y, outputs, labels=labels, reduction=reduction)
    if absent:
        listed = ", ".join(map(str, absent[:_MOST_LISTED])) + (", ..." if len(absent) > _MOST_LISTED else "")
        yield (
            f"no sample of the training data is of class {listed} ({len(absent)} of {classes}): the model can't learn "
            "what it never sees. Look at how classes are numbered, and at which samples are left for training."
        )

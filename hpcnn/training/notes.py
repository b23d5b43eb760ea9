"""What a user should hear of a job and its data before the training: each is fine, but values will mislead."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hpcnn.core.formatting import counted, percent
from hpcnn.data.load import absent_classes, one_class_each
from hpcnn.data.reduction import Reduction
from hpcnn.data.rows import Chunks
from hpcnn.data.sampler import check_batch
from hpcnn.data.samples import Splits
from hpcnn.job.losses_checks import OF_ANY_UNIT
from hpcnn.job.schema import Job, Run
from hpcnn.nn.layers import BatchNormalization
from hpcnn.nn.network import Network
from hpcnn.nn.several_losses import BoundLosses
from hpcnn.training.backend import ModelSpec

_MOST_LISTED = 10
_MOST_LEFT = 0.1
"""Of the values that moving averages begin with: so much does not mislead."""
_FAR = 10
"""Distance of targets from 0, in deviations."""
_MOST_CHUNKS = 64
"""Of the targets, to look at."""
_OF_CLASSES = ("accuracy", "precision", "recall", "f1", "iou", "mean_iou")
"""Metrics of labels that have the name of a metric of classes."""


def notes_on(job: Job, spec: ModelSpec, splits: Splits, reduction: Reduction) -> Iterator[str]:
    """Yield warnings of a model and the samples that it is to be trained on. Collective."""
    if job.train.shards == 1 and job.run.noise_scale_every not in (0, Run().noise_scale_every):
        yield (
            f"run.noise_scale_every = {job.run.noise_scale_every}, but the noise scale compares gradient shards, and "
            "with train.shards = 1 there is one: nothing is measured. Set train.shards to 2 or more, another result."
        )
    yield from _short_averages(job, spec, len(splits.train))
    yield from _far_targets(job, splits, reduction)
    if isinstance(spec.loss, BoundLosses):
        return
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
    of_outputs = [metric.name for metric in spec.layout.metrics if metric.multilabel and metric.name in _OF_CLASSES]
    if of_outputs and not loss.name.startswith("binary_") and one_class_each(samples.y, reduction):
        yield (
            f"each sample of the training data has one class, but behind a sigmoid with the loss {loss.name} "
            f"{' and '.join(of_outputs)} count each of {outputs} outputs for itself. For one class a sample use "
            "softmax, categorical_crossentropy, or integer labels with data.one_hot = true."
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


def _far_targets(job: Job, splits: Splits, reduction: Reduction) -> Iterator[str]:
    """Yield a warning if targets are far from 0 for their deviation, as temperatures in kelvin. Collective."""
    if job.loss is None or type(job.loss).__struct_config__.tag not in OF_ANY_UNIT or job.data.one_hot:
        return
    if splits.target_scaling is not None:
        return
    chunks = Chunks(splits.train.y, np.float64)
    step, last = -(-len(chunks) // _MOST_CHUNKS), splits.train.y.shape[1:][-1:] or (1,)
    origin = chunks[0].reshape(-1, *last)[0].copy()

    def leaf(i: int) -> NDArray[np.float64]:
        values = chunks[i * step].reshape(-1, *last) - origin
        return np.stack([np.full(last, len(values)), values.sum(axis=0), np.square(values).sum(axis=0)])

    count, total, squares = reduction.sum(-(-len(chunks) // step), leaf)
    means = origin + total / count
    deviations = np.sqrt(np.maximum(0, squares / count - np.square(total / count)))
    far = np.flatnonzero((deviations > 0) & (np.abs(means) > _FAR * deviations))
    if len(far):
        mean, deviation = means[far[0]], deviations[far[0]]
        yield (
            f"targets of the training data are around {mean:.4g}, with a deviation of {deviation:.4g}: a network takes "
            'long to learn such an offset. Set data.scale_targets = "standardize".'
        )


def _short_averages(job: Job, spec: ModelSpec, samples: int) -> Iterator[str]:
    """Yield a warning if the job has too few steps for the moving averages of a batch normalisation."""
    if not isinstance(spec.network, Network):
        return
    steps = job.train.epochs * math.ceil(samples / check_batch(job.train.batch_size, samples))
    layers = [node.layer for node in spec.network.nodes if isinstance(node.layer, BatchNormalization)]
    slowest = max((layer for layer in layers if layer.trainable), key=lambda layer: layer.momentum, default=None)
    if slowest is not None and (left := slowest.momentum**steps) > _MOST_LEFT:
        yield (
            f"after {counted(steps, 'step')} with momentum = {slowest.momentum:g}, the moving averages of layer "
            f"{slowest.name!r}, which validation and predictions use, still are what they began with to "
            f"{percent(left)}. Train longer, or lower its momentum, to 0.9 for example."
        )

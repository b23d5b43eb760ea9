"""Weights of the classes in a loss."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hpcnn.comm.collectives import TreeReduction
from hpcnn.comm.protocol import Array
from hpcnn.data.load import class_counts
from hpcnn.data.samples import Samples
from hpcnn.errors import JobError
from hpcnn.job.schema import Job
from hpcnn.nn.several_losses import BoundLosses
from hpcnn.runs.spec import labels_apart
from hpcnn.training.backend import ModelSpec


def class_weights(job: Job, spec: ModelSpec, balanced: Callable[[int], Array]) -> Array | None:
    """Return the weight of each class in the loss, or None; `balanced` makes those of a number of classes."""
    chosen = getattr(job.loss, "class_weights", "none")
    if chosen == "none" or isinstance(spec.loss, BoundLosses):
        return None
    if len(spec.network.output_shape) > 1:
        raise JobError(
            f"loss.class_weights need one class a sample, but the model's outputs have shape "
            f'{spec.network.output_shape}. Set it to "none", or let the model end in one row of outputs.'
        )
    if labels_apart(job, spec.network, spec.loss):
        raise JobError(
            "loss.class_weights need one class a sample, but with a sigmoid on each of "
            f'{spec.network.output_shape[-1]} outputs any number of labels may be true. Set it to "none".'
        )
    classes = max(2, spec.network.output_shape[-1])
    if isinstance(chosen, list):
        if len(chosen) != classes:
            raise JobError(f"loss.class_weights has {len(chosen)} entries, but there are {classes} classes")
        return np.asarray(chosen, np.float64)
    return balanced(classes)


def balanced_weights(samples: Samples, classes: int, reduction: TreeReduction) -> Array:
    """Return samples / (classes x samples of the class)."""
    counts = class_counts(samples.y, classes, reduction)
    if not counts.all():
        empty = ", ".join(str(c) for c in np.flatnonzero(counts == 0))
        raise JobError(
            f'loss.class_weights = "balanced", but the training data has no sample of class {empty}. '
            "Give the weights as a list, or fewer outputs."
        )
    weights: Array = counts.sum() / (classes * counts)
    return weights

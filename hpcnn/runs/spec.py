"""From a job to its model: network, loss and metrics."""

from __future__ import annotations

from hpcnn.backends.numpy.backend import NUMPY
from hpcnn.data.samples import Scaling
from hpcnn.errors import JobError
from hpcnn.job.output_checks import check_class_metrics, check_ending
from hpcnn.job.schema import Job
from hpcnn.nn.build import build_loss, build_losses
from hpcnn.nn.loss import BoundLoss
from hpcnn.training.backend import Backend, ModelSpec
from hpcnn.training.metrics import Metric, build_metrics, is_multilabel, metric_of_output, unscaled
from hpcnn.training.model import BuiltNetwork
from hpcnn.training.step_stats import StatsLayout


def build_spec(
    job: Job, input_shape: tuple[int, ...], backend: Backend = NUMPY, target_scaling: Scaling | None = None
) -> ModelSpec:
    """Return what the job's model is, for samples of `input_shape`, and that `backend` computes it; see `spec_of`."""
    return spec_of(job, backend.build_network(job, input_shape), backend, target_scaling)


def spec_of(
    job: Job, network: BuiltNetwork, backend: Backend = NUMPY, target_scaling: Scaling | None = None
) -> ModelSpec:
    """Return a network with the loss and the metrics of a job. ModelError: they do not fit it.

    Metrics are those of targets before the `target_scaling`.
    """
    if job.loss is None:
        return several_of(job, network, backend)
    if network.outputs:
        raise JobError(
            f"the network has outputs by name, {', '.join(one.name for one in network.outputs)}, but the job has "
            f"[loss]: give each a section, as [losses.{network.outputs[0].name}]"
        )
    loss = build_loss(job.loss, network.output_shape, network.head)
    if loss.target_kind == "sequences" and job.train.metrics:
        raise JobError(
            f"train.metrics: {job.train.metrics[0]!r} compares outputs with targets place by place, which the "
            f"sequences of the loss {loss.loss.name!r} do not have. Remove all metrics."
        )
    if loss.target_kind == "any" and job.train.metrics:
        raise JobError(
            f"train.metrics: {job.train.metrics[0]!r} compares outputs with targets, but the loss {loss.loss.name!r} "
            "reads no targets. Remove all metrics."
        )
    metrics = build_metrics(
        job.train.metrics,
        outputs=network.output_shape[-1],
        labels=loss.target_kind == "labels",
        multilabel=labels_apart(job, network, loss),
        top_k=job.train.top_k,
        iou_class=job.train.iou_class,
        arithmetic=job.train.arithmetic,
    )
    metrics = [unscaled(metric, target_scaling) for metric in metrics]
    return ModelSpec(network, loss, StatsLayout(metrics, loss.ignore_class), backend, job.train.arithmetic)


def several_of(job: Job, network: BuiltNetwork, backend: Backend) -> ModelSpec:
    """Return a network of several outputs with the losses and the metrics of a job."""
    losses = build_losses(job.losses, network.outputs)
    metrics: list[Metric] = []
    for part in losses.parts:
        name, loss, output = part.name, part.bound.loss.name, part.output
        wanted = job.losses[name].metrics
        check_ending(loss, output.ending, f"losses.{name}")
        check_class_metrics(loss, output.ending, wanted, one_hot=False, place=f"losses.{name}")
        size = output.shape[-1]
        multilabel = is_multilabel(loss=loss, ending=output.ending, outputs=size, labels=part.labels, one_hot=False)
        own = build_metrics(
            wanted,
            outputs=size,
            labels=part.labels,
            multilabel=multilabel,
            top_k=job.train.top_k,
            iou_class=job.train.iou_class,
            arithmetic=job.train.arithmetic,
        )
        metrics += [metric_of_output(metric, part) for metric in own]
    weights = {part.name: part.weight for part in losses.parts}
    return ModelSpec(network, losses, StatsLayout(metrics, None, weights), backend, job.train.arithmetic)


def labels_apart(job: Job, network: BuiltNetwork, loss: BoundLoss) -> bool:
    """Return whether each of the model's outputs is a label of its own; see `is_multilabel`."""
    return is_multilabel(
        loss=loss.loss.name,
        ending=network.ending,
        outputs=network.output_shape[-1],
        labels=loss.target_kind == "labels",
        one_hot=job.data.one_hot,
    )

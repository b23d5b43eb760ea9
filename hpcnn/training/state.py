"""The whole state of a training, to a checkpoint and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from numpy.typing import NDArray

from hpcnn import __version__
from hpcnn.blas import fingerprint
from hpcnn.errors import CheckpointError, JobError
from hpcnn.job.dump import differing_settings, result_settings
from hpcnn.job.schema import Job
from hpcnn.training.build import Training
from hpcnn.training.checkpoint import Checkpoint, prefixed
from hpcnn.training.metrics import plain_values
from hpcnn.training.trainer import Progress


def pack(training: Training, base: Path, progress: Progress) -> Checkpoint | None:
    """Return what it takes to go on with `training` on any number of ranks; None but on rank 0. Collective."""
    optimizer = training.replica.optimizer_state()
    owed = training.replica.compression_state()
    if optimizer is None or owed is None:
        return None
    tensors = {
        **_model_tensors(training),
        **prefixed("optimizer", optimizer),
        **prefixed("compression", owed),
        "progress/totals": progress.totals.copy(),
    }
    for name, callback in training.callbacks.items():
        tensors |= prefixed(f"callbacks/{name}", callback.arrays())
    return Checkpoint(tensors, _facts(training, base, progress))


def pack_model(training: Training, base: Path, progress: Progress) -> Checkpoint:
    """Return the finished model: weights and scaling, without the state of training."""
    return Checkpoint(_model_tensors(training), _facts(training, base, progress))


def _model_tensors(training: Training) -> dict[str, NDArray[Any]]:
    scaling = training.splits.scaling
    arrays = scaling.to_dict() if scaling else {}
    return {**prefixed("model", training.replica.weights()), **prefixed("scaling", arrays)}


def _facts(training: Training, base: Path, progress: Progress) -> dict[str, Any]:
    return {
        "job": msgspec.to_builtins(training.job),
        "base": str(base.resolve()),
        "progress": {
            "epoch": progress.epoch,
            "step_in_epoch": progress.step_in_epoch,
            "step": progress.step,
            "best": progress.best,
            "values": plain_values(progress.values),
            "finish": progress.finish,
        },
        "callbacks": {name: callback.state() for name, callback in training.callbacks.items()},
        "weights_sha256": training.replica.fingerprint(),
        "input_shape": list(training.model.network.input_shape),
        "hpcnn": __version__,
        "machine": fingerprint(),
    }


def unpack(checkpoint: Checkpoint, training: Training) -> Progress:
    """Bring `training` to the state in `checkpoint`.

    Raises:
        CheckpointError: the checkpoint is of another model or optimizer.
    """
    replica = training.replica
    totals = checkpoint.tensors.get("progress/totals")
    if totals is None or totals.shape != (replica.layout.size,):
        raise CheckpointError(
            "the checkpoint holds no state of training for this job: it is a finished model, or another job's. "
            "Resume from checkpoints/last.safetensors of the run."
        )
    replica.load_weights(checkpoint.part("model"))
    replica.load_optimizer_state(checkpoint.part("optimizer"))
    replica.load_compression_state(checkpoint.part("compression"))
    for name, callback in training.callbacks.items():
        callback.load(checkpoint.facts["callbacks"][name], checkpoint.part(f"callbacks/{name}"))
    return Progress(totals=totals.copy(), **checkpoint.facts["progress"])


def check_same_job(old: Mapping[str, Any], new: Job) -> None:
    """Refuse to go on with a run under settings that would change its result; more epochs may be asked for.

    `old` is the job as the checkpoint keeps it.

    Raises:
        CheckpointError: lists the settings that differ.
    """
    before = result_settings(job_of(old))
    after = result_settings(new)
    epochs = after["train"]["epochs"]
    if epochs > before["train"]["epochs"] and before["schedule"].get("length", 0) is not None:
        before["train"]["epochs"] = epochs  # unless the schedule stretches to the end of the training
    different = differing_settings(before, after)
    if different:
        raise CheckpointError(
            "the run was started with other settings, which decide its result: "
            + "; ".join(different)
            + ". Go on with the settings of its job.toml, or start a new run with another --out."
        )


def job_of(settings: Mapping[str, Any]) -> Job:
    """Return the job that a checkpoint keeps.

    Raises:
        CheckpointError: this version of hpcnn does not know some setting.
    """
    try:
        return msgspec.convert(settings, Job)
    except (msgspec.ValidationError, JobError) as error:
        raise CheckpointError(f"the job in the checkpoint is not one of hpcnn {__version__}: {error}") from None

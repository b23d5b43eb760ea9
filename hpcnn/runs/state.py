"""The whole state of a training, packed for a checkpoint and unpacked from one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from hpcnn import __version__
from hpcnn.core.conversion import convert
from hpcnn.data.content import Content, DataChange
from hpcnn.data.samples import Scaling
from hpcnn.data.tables.recipe import Recipe
from hpcnn.errors import CheckpointError, JobError, shortened
from hpcnn.job.data import CONTENT_SETTINGS
from hpcnn.job.dump import differing_settings, result_settings
from hpcnn.job.recorded import as_recorded
from hpcnn.job.schema import Job
from hpcnn.storage.checkpoint import Checkpoint, PendingCheckpoint, prefixed
from hpcnn.storage.lazy import LazyArray
from hpcnn.storage.tensor_file import can_hold
from hpcnn.training.backend import ModelSpec, machine_info
from hpcnn.training.callbacks import Callback, EarlyStopping, ReduceOnPlateau
from hpcnn.training.loop import Progress
from hpcnn.training.metrics import plain_values
from hpcnn.training.noise_scale import NoiseScaleMeter
from hpcnn.training.step_stats import COUNT, WEIGHT
from hpcnn.training.training import Training

_SETTLED = ("shards", "compression_groups")
"""Automatic settings that are numbers from a run's start on."""
Natural = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class ProgressFacts(msgspec.Struct):
    """`Progress` as JSON holds it."""

    epoch: Natural
    step_in_epoch: Natural
    step: Natural
    best: float | None
    values: dict[str, float | list[list[float]] | None]
    finish: str


class Facts(msgspec.Struct):
    """What a checkpoint says beside its arrays."""

    job: dict[str, Any]
    base: str
    progress: ProgressFacts
    callbacks: dict[str, dict[str, Any]]
    weights_sha256: str
    input_shape: tuple[Annotated[int, msgspec.Meta(ge=1, lt=2**31)], ...]
    hpcnn: str
    machine: dict[str, Any]
    data: Content | None = None
    """Of the data that it was trained on; None if settings compute them, or an older version wrote the file."""
    recipe: Recipe | None = None
    """What became of the columns of a table; None of other data, or if an older version wrote the file."""
    data_changes: list[DataChange] = []
    """Changes of the data that the user accepted."""


def facts_of(facts: Mapping[str, Any]) -> Facts:
    """Return the facts of a checkpoint that a training wrote. CheckpointError: they are not such facts."""
    try:
        return convert(facts, Facts)
    except (msgspec.ValidationError, UnicodeError) as error:
        raise CheckpointError(
            f"not a training checkpoint ({shortened(error)}). Use one that hpcnn train wrote."
        ) from None


def pack(
    training: Training, base: Path, progress: Progress, lasting: Mapping[str, Any] | None = None
) -> PendingCheckpoint:
    """Return what it takes to resume `training` on any number of ranks. The same on every rank.

    `lasting` is what `facts_of_training` returns for it, where that is at hand.
    """
    arrays = {**training.replica.state(), **_scaling_arrays(training), "progress/totals": LazyArray.of(progress.stats)}
    for name, callback in training.callbacks.items():
        arrays |= prefixed(f"callbacks/{name}", _local(_arrays_of(callback, name)))
    return PendingCheckpoint(arrays, _facts(training, base, progress, lasting))


def pack_model(training: Training, base: Path, progress: Progress) -> PendingCheckpoint:
    """Return the finished model: weights and scaling, without the state of training. Every rank has it."""
    arrays = {**prefixed("model", training.replica.model.lazy_weights()), **_scaling_arrays(training)}
    return PendingCheckpoint(arrays, _facts(training, base, progress, None))


def _scaling_arrays(training: Training) -> dict[str, LazyArray]:
    given = {"scaling": training.splits.scaling, "target_scaling": training.splits.target_scaling}
    found: dict[str, LazyArray] = {}
    for name, scaling in given.items():
        found |= prefixed(name, _local(scaling.to_dict())) if scaling else {}
    return found


def scaling_in(checkpoint: Checkpoint, part: str = "scaling") -> Scaling | None:
    """Return the scaling that a checkpoint holds, that of the inputs or the `target_scaling`."""
    arrays = checkpoint.part(part)
    if not arrays:
        return None
    if arrays.keys() != {"shift", "scale"}:
        raise CheckpointError(f"the checkpoint's {part} has {', '.join(sorted(arrays))} in place of shift and scale")
    return Scaling.from_dict({name: array.copy() for name, array in arrays.items()})


def _local(arrays: Mapping[str, NDArray[Any]]) -> dict[str, LazyArray]:
    return {name: LazyArray.of(array) for name, array in arrays.items()}


def _facts(training: Training, base: Path, progress: Progress, lasting: Mapping[str, Any] | None) -> dict[str, Any]:
    callbacks = {name: _state_of(callback, name) for name, callback in training.callbacks.items()}
    if lasting is None:
        lasting = facts_of_training(training, base)
    return facts_for(lasting, progress, callbacks)


def lasting_facts(
    job: Job, spec: ModelSpec, base: Path, content: Content | None, recipe: Recipe | None = None
) -> dict[str, Any]:
    """Return the facts of all checkpoints of a training, which it does not change. `base` is that of relative paths."""
    return {
        "job": msgspec.to_builtins(job),
        "base": str(base.resolve()),
        "input_shape": list(spec.network.input_shape),
        "hpcnn": __version__,
        "machine": machine_info(job, spec.backend),
        "data": msgspec.to_builtins(content),
        "recipe": msgspec.to_builtins(recipe),
    }


def facts_of_training(training: Training, base: Path) -> dict[str, Any]:
    """Return the lasting facts of a training."""
    facts = lasting_facts(training.job, training.spec, base, training.content, training.splits.recipe)
    return {**facts, "data_changes": msgspec.to_builtins(training.data_changes)}


def facts_for(
    lasting: Mapping[str, Any], progress: Progress, callbacks: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return all facts of a checkpoint but the SHA-256 of the weights, which is found while they are written."""
    state = {
        "epoch": progress.epoch,
        "step_in_epoch": progress.step_in_epoch,
        "step": progress.step,
        "best": progress.best,
        "values": plain_values(progress.values),
        "finish": progress.finish,
    }
    return {**lasting, "progress": state, "callbacks": callbacks}


def _state_of(callback: Callback, name: str) -> dict[str, Any]:
    state = callback.state()
    try:
        if not isinstance(state, dict):
            raise TypeError(f"it is {type(state).__name__}")
        json.dumps(state, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"the state of callback {name} can't be saved: {shortened(error)}. Let its state() return a dict of "
            "numbers, text, lists and dicts."
        ) from None
    return state


def _arrays_of(callback: Callback, name: str) -> dict[str, NDArray[Any]]:
    arrays = callback.arrays()
    for key, array in arrays.items():
        if not can_hold(array):
            raise CheckpointError(
                f"array {key!r} of callback {name} can't be saved: it is {getattr(array, 'dtype', type(array))}. Let "
                "its arrays() return NumPy arrays of numbers or booleans."
            )
    return arrays


def unpack(checkpoint: Checkpoint, training: Training, *, other_samples: bool = False) -> Progress:
    """Bring `training` to the state in `checkpoint`. CheckpointError: that is of another model or optimizer.

    With `other_samples` the training has not those that it began the epoch with, and begins it again.
    """
    replica = training.replica
    totals = checkpoint.tensors.get("progress/totals")
    if totals is not None and totals.shape == (replica.model.layout.size - 1,):  # before samples could have weights
        totals = np.insert(totals, COUNT, totals[WEIGHT])
    if totals is None or totals.shape != (replica.model.layout.size,) or totals.dtype != np.float64:
        raise CheckpointError(
            "the checkpoint holds no state of training for this job: it is a finished model, or another job's. "
            "Resume from checkpoints/last.safetensors of the run."
        )
    facts = facts_of(checkpoint.facts)
    progress = Progress(stats=totals.copy(), **msgspec.structs.asdict(facts.progress))
    steps = training.shards.steps_per_epoch
    if other_samples:
        progress = replace(progress, step_in_epoch=0, step=progress.epoch * steps, stats=np.zeros_like(totals))
    if progress.step_in_epoch > steps or progress.step != progress.epoch * steps + progress.step_in_epoch:
        raise CheckpointError(
            f"the checkpoint is of another training: epoch {progress.epoch} and step {progress.step_in_epoch} in it "
            f"are not step {progress.step} where an epoch has {steps}"
        )
    replica.load_state(checkpoint.tensors)
    if replica.model.fingerprint() != facts.weights_sha256:
        raise CheckpointError("the weights that were loaded do not have the SHA-256 that they were saved with")
    for name, callback in training.callbacks.items():
        _load_callback(callback, name, facts, checkpoint, training)
    return progress


def _load_callback(callback: Callback, name: str, facts: Facts, checkpoint: Checkpoint, training: Training) -> None:
    state, own = facts.callbacks.get(name, {}), callback.state()
    arrays = checkpoint.part(f"callbacks/{name}")
    if isinstance(callback, NoiseScaleMeter) and not state:
        return  # the run that wrote the file did not measure, or was one of an older version
    ours = isinstance(callback, EarlyStopping | ReduceOnPlateau | NoiseScaleMeter)
    if not (_fits(state, own) if ours else name in facts.callbacks or not own):
        held = shortened(state)
        raise CheckpointError(f"the state of {name} does not fit: the file holds {held}, the job needs {[*own]}")
    if ours and arrays:
        training.spec.network.layout.check_state_dict(arrays)
    callback.load(state, {key: array.copy() for key, array in arrays.items()})


def _fits(state: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    """Return whether a state has the names and kinds of a callback of the job's; of others the users know."""
    return state.keys() == own.keys() and all(
        type(value) in (int, float) or (value is None and own[key] is None) for key, value in state.items()
    )


def check_same_job(old: Mapping[str, Any], new: Job, *, data_known: bool = False, says_arithmetic: bool = True) -> Job:
    """Refuse to resume a run under settings that would change its result; more epochs may be asked for.

    The backend may change: the bits do then, but not the training. `old` is the job as the checkpoint keeps it.
    With `data_known` the data are compared with those of the start, so that their place does not matter. Without
    `says_arithmetic` the new job leaves `train.arithmetic` out, as job files of versions without the setting do.

    Returns:
        the new job, the settings that it leaves open as the run began with.
    """
    first = job_of(old)
    kept = {key: getattr(first.train, key) for key in _SETTLED if getattr(new.train, key) == "auto"}
    if not says_arithmetic:
        kept["arithmetic"] = first.train.arithmetic
    new = msgspec.structs.replace(new, train=msgspec.structs.replace(new.train, **kept))
    if new.data.order == first.data.order and not new.data.chunk_rows:
        new = msgspec.structs.replace(new, data=msgspec.structs.replace(new.data, chunk_rows=first.data.chunk_rows))
    if not new.model.inputs and first.model.inputs:  # those that the data name
        new = msgspec.structs.replace(new, model=msgspec.structs.replace(new.model, inputs=first.model.inputs))
    before, after = result_settings(first), result_settings(new)
    for settings in (before, after):
        del settings["backend"], settings["keras"], settings["torch"]
        if data_known:
            settings["data"] = {key: value for key, value in settings["data"].items() if key not in CONTENT_SETTINGS}
    epochs, why = after["train"]["epochs"], ""
    if epochs > before["train"]["epochs"]:
        if before["schedule"].get("length", 0) is not None:
            before["train"]["epochs"] = epochs
        else:
            why = (
                f" With schedule.name = {before['schedule']['name']!r} and no schedule.length, the learning rates "
                "follow from the number of epochs: more of them are another training."
            )
    different = differing_settings(before, after)
    if different:
        raise CheckpointError(
            "the run was started with other settings, which decide its result: "
            + "; ".join(different)
            + f".{why} Resume with the settings of its job.toml, or start a new run with another --out."
        )
    return new


def job_of(settings: Mapping[str, Any]) -> Job:
    """Return the job that a checkpoint keeps. CheckpointError: this version of hpcnn does not know some setting."""
    try:
        return convert(as_recorded(settings), Job)
    except (msgspec.ValidationError, UnicodeError, JobError) as error:
        raise CheckpointError(
            f"the job in the checkpoint is not one of hpcnn {__version__}: {shortened(error)}"
        ) from None

"""The job of a program: a file, a table or a `Job`, with changes, and with arrays in place of its data."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from hpcnn.comm.collectives import variants_or_raise
from hpcnn.comm.protocol import Communicator
from hpcnn.data.content import with_digests
from hpcnn.data.readers.memory import Names, Pair, Validation, array_settings, array_source
from hpcnn.data.source import Source
from hpcnn.errors import DataError, JobError, ModelError
from hpcnn.job.data import ENCODING, DataSection
from hpcnn.job.dump import differing_settings
from hpcnn.job.load import DEFAULT_JOB, LoadedJob, builtin_jobs, check_table, read_table
from hpcnn.job.model import Model
from hpcnn.job.overrides import apply_overrides
from hpcnn.job.schema import Job
from hpcnn.job.shards import NUMPY_SHARDS
from hpcnn.nn.build import model_section
from hpcnn.nn.network import Network
from hpcnn.optim.optimizer import Optimizer

AnyJob = str | PathLike[str] | Mapping[str, Any] | Job
Overrides = Sequence[str] | Mapping[str, Any]
Section = str | Mapping[str, Any]
"""A section of a job: a dict as ``{"name": "adam", "learning_rate": 0.01}``, or the name alone."""

_NAMED = ("loss", "optimizer", "schedule")
"""Sections that a name alone can stand for."""
_LOSS_BEHIND = {"softmax": "sparse_categorical_crossentropy", "sigmoid": "binary_crossentropy"}
"""The loss of a network that comes without a job, by its head."""
_NO_FILE = Path("fit")
"""Stands for the file of a job that is from none: names it in messages, and its run folder."""


@dataclass(frozen=True)
class GivenData:
    """The arrays of a program."""

    data: Pair | None = None
    validation: Validation | None = None
    sample_weight: ArrayLike | None = None
    groups: ArrayLike | None = None

    def source(self, names: Names) -> Source | None:
        """Return them as a source of data; None if there are none. DataError: some are missing, or can't be used."""
        if self.data is not None:
            weights, groups = self.sample_weight, self.groups
            return array_source(self.data, self.validation, names=names, sample_weight=weights, groups=groups)
        for given in ("validation", "sample_weight", "groups"):
            if getattr(self, given) is not None:
                raise DataError(f"{given}= is given, but data=(x, y) is not. Give both.")
        return None


def prepare_job(
    job: AnyJob | None, overrides: Overrides, given: GivenData, network: Network | None = None
) -> tuple[LoadedJob, Source | None]:
    """Return a job, and the arrays as a source of data if there are any; see `hpcnn.fit`.

    Raises:
        JobError: as for `hpcnn.job.load_job`.
        DataError: the arrays are none that can be used.
        ModelError: the network is none, or has layers that no job file knows.
    """
    if job is None and network is not None:
        check_network(network)
        job = {"losses": {each.name: {"name": _LOSS_BEHIND.get(each.head, "mse")} for each in network.outputs}}
        if not network.outputs:
            job = {"loss": {"name": _LOSS_BEHIND.get(network.head, "mse")}}
    table, path = table_of(job)
    if network is not None:
        table["model"] = _with_network(table.get("model"), network)
    changed = apply_overrides(table, _as_overrides(overrides))
    source = given.source(_names_in(table.get("model")))
    if source is None:
        return check_table(table, path, changed), None
    source = with_digests(source)
    section = table.setdefault("data", {})
    if isinstance(section, dict):  # else the check says what is wrong with it
        table["data"] = _with_arrays(section, source)
    return check_table(table, path, changed), source


def names_of_network(network: Network) -> Names:
    """Return the names of a network's inputs and outputs, where it has several."""
    return Names(tuple(network.inputs), tuple(each.name for each in network.outputs))


def _names_in(model: Any) -> Names:
    """Return the same of a `[model]` section."""
    section = model if isinstance(model, dict) else {}
    inputs, outputs = section.get("inputs"), section.get("outputs")
    return Names(tuple(inputs) if isinstance(inputs, dict) else (), tuple(outputs) if isinstance(outputs, list) else ())


def trainer_job(network: Network, loss: Section, optimizer: Section | Optimizer, settings: Mapping[str, Any]) -> Job:
    """Return the job of a trainer, checked as every job is: what its checkpoints keep.

    A network with layers of the user's own is in no job: its model stays empty. An `Optimizer` is in none either.

    Raises:
        HpcnnError: something is of another kind, or out of range.
    """
    check_network(network)
    try:
        model = model_section(network)
    except ModelError:
        model = None
    table: dict[str, Any] = {
        "data": {"source": "memory"},
        "model": model or {"entry": "layers.of:the_user"},
        **({"losses": _losses(loss)} if network.outputs else {"loss": _section(loss)}),
        "train": {**settings, "batch_size": "full", "optimizer_sharding": False, "bucket_mb": 0},
    }
    if settings["shards"] == "auto":  # batches may be of any size
        table["train"]["shards"] = NUMPY_SHARDS
    if not isinstance(optimizer, Optimizer):
        table["optimizer"] = _section(optimizer)
    job = check_table(plain(table), Path("Trainer")).job
    return job if model else msgspec.structs.replace(job, model=Model())


def _losses(given: Any) -> Any:
    """Return the losses of several outputs by name, each of which may be a name alone."""
    return {name: _section(one) for name, one in given.items()} if isinstance(given, Mapping) else given


def _section(given: Any) -> Any:
    return {"name": given} if isinstance(given, str) else dict(given) if isinstance(given, Mapping) else given


def check_alike(comm: Communicator, job: Job, **others: Any) -> None:
    """Check that every rank was given the same. Collective, and to be called within `agree`.

    Raises:
        JobError: some rank was not; says what differs.
    """
    first, *rest = variants_or_raise(comm, {**msgspec.to_builtins(job), **others})
    if rest:
        different = differing_settings(first.value, rest[0].value)
        raise JobError(
            f"rank {rest[0].rank} gives hpcnn.fit other things than rank 0 does: {'; '.join(different)}. Give all "
            "ranks the same job, arrays and folder."
        )


def table_of(job: AnyJob | None) -> tuple[dict[str, Any], Path]:
    """Return the sections of a job as TOML would give them, and the file that messages name."""
    if job is None:
        job = builtin_jobs() / DEFAULT_JOB
    if isinstance(job, str | PathLike):
        return read_table(Path(job)), Path(job)
    if isinstance(job, Job):
        job = msgspec.to_builtins(job)
    if not isinstance(job, Mapping):
        raise JobError(f"the job is {type(job).__name__}; expected the path of a job file, or a dict of its sections")
    table: dict[str, Any] = plain(copy.deepcopy(dict(job)))
    if "losses" in table:
        table["losses"] = _losses(table["losses"])
    for section in _NAMED:
        if isinstance(table.get(section), str):
            table[section] = {"name": table[section]}
    return table, _NO_FILE


def plain(value: Any) -> Any:
    """Return a value as TOML would give it: lists for tuples, Python's own numbers, and no None."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return str(value) if isinstance(value, PathLike) else value


def _as_overrides(overrides: Overrides) -> Overrides:
    if isinstance(overrides, Mapping):
        return {key: plain(value) for key, value in overrides.items()}
    if isinstance(overrides, str):
        raise JobError(f'overrides={overrides!r}: expected a dict, as {{"train.epochs": 5}}, or a list of such strings')
    return overrides


def check_network(network: Any) -> None:
    """Raise ModelError if `network` is none."""
    if not isinstance(network, Network):
        raise ModelError(f"the network is {type(network).__name__}; expected an hpcnn.nn.Network")


def _with_network(section: Any, network: Network) -> dict[str, Any]:
    """Return `[model]` with a network in place of its layers; where its weights start from stays."""
    check_network(network)
    kept = section if isinstance(section, dict) else {}
    return {**{key: kept[key] for key in ("initial_weights",) if key in kept}, **plain(model_section(network))}


def _with_arrays(section: dict[str, Any], source: Source) -> dict[str, Any]:
    """Return `[data]` with its source replaced by arrays; what holds for any source stays."""
    if section.get("validation_fraction") and source.validation:
        raise JobError(
            f"data.validation_fraction = {section['validation_fraction']} and validation=(x, y) both give validation "
            'data. Leave out one of them, for example by overrides={"data.validation_fraction": 0}.'
        )
    if section.get("source", "memory") != "memory":  # another kind of source: its own settings mean nothing here
        common = (*(field.name for field in msgspec.structs.fields(DataSection)), *ENCODING)
        section = {name: section[name] for name in common if name in section}
    return {**section, **array_settings(source)}

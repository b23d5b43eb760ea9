"""Reads the data of a job as its training would, and collects what there is to say about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpcnn.backends.choice import choose_backend
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.data.readers import read_source
from hpcnn.data.rows import Array, Rows, SubsetRows
from hpcnn.data.sampler import Indices, check_batch
from hpcnn.data.samples import Splits
from hpcnn.data.source import Source
from hpcnn.data.splits import split_of
from hpcnn.data.time_windows import window_plan
from hpcnn.errors import HpcnnError
from hpcnn.job import data as schema
from hpcnn.job.load import LoadedJob, load_job
from hpcnn.job.schema import Job
from hpcnn.nn.network import Network
from hpcnn.runs.build import load_checked
from hpcnn.tools.data.classes import classes_of
from hpcnn.tools.data.columns import column_facts, fields_behind, first_samples
from hpcnn.tools.data.facts import TRAINING, VALIDATION, ClassFacts, DataFacts, PartFacts
from hpcnn.tools.data.findings import Evidence, findings_of
from hpcnn.tools.data.measure import Moments, SampledReduction, chosen_rows, flat_rows, measure, moments_of
from hpcnn.tools.explain.pictures import image_shape
from hpcnn.tools.open_run import by_numpy
from hpcnn.training.backend import ModelSpec
from hpcnn.training.notes import notes_on

MOST_ROWS = 100_000
"""Most samples of each part that are looked at, unless the caller asks for more."""
MOST_PICTURES = 24
_ANY_SIZE = ("embedding", "batch_normalization", "group_normalization", "layer_norm")
"""Kinds of first layers that do not mind how large their inputs are."""
Part = tuple[str, Rows, Rows]
"""Its name, inputs and targets, as they are stored."""


@dataclass(frozen=True, eq=False)
class Look:
    """What was found in the data of a job."""

    facts: DataFacts
    pictures: list[tuple[str, Array]]
    """Some inputs that are images, (height, width) or (height, width, 3), with what their targets are."""


@dataclass(frozen=True, eq=False)
class Trial:
    """What the training gets; nothing if it would end with an error."""

    job: Job
    spec: ModelSpec | None = None
    splits: Splits | None = None
    problem: str = ""
    notes: tuple[str, ...] = ()


def look(path: Path | None, overrides: Sequence[str], most_rows: int = MOST_ROWS) -> Look:
    """Return what there is to say about the data of the job at `path`, changed by `overrides`.

    Raises:
        HpcnnError: the job is wrong, or its data can't be read.
    """
    loaded = load_job(path, overrides)
    source = read_source(loaded.job.data, loaded.base)
    trial = _tried(loaded, source)
    parts, letters = _parts(source, loaded.job), _letters(source, loaded.job)
    measured = {name: measure(x, y, chosen_rows(x, most_rows)) for name, x, y in parts}
    classes = classes_of(trial.spec, trial.splits, source, parts, most_rows, letters)
    _, x, y = parts[0]
    head, rows = first_samples(source, x, y, letters)
    given = None if trial.splits is None else trial.splits.train.x
    network = None if given is None else moments_of(given, chosen_rows(given, most_rows))
    names = source.columns
    evidence = Evidence(
        job=trial.job,
        source=source,
        is_text=bool(letters),
        measured=measured,
        splits=trial.splits,
        classes=classes,
        problem=trial.problem,
        notes=(*source.notes, *trial.notes),
        counts={name: rows.shape[0] for name, rows, _ in parts},
        network=network,
        scales_itself=trial.spec is not None and _scales_itself(trial.spec),
    )
    facts = DataFacts(
        job=loaded.job.name,
        source=str(type(loaded.job.data).__struct_config__.tag),
        x_shape=x.shape[1:],
        x_type=x.dtype.name,
        y_shape=y.shape[1:],
        y_type=y.dtype.name,
        parts=[
            PartFacts(name=name, samples=rows.shape[0], looked_at=measured[name].looked_at) for name, rows, _ in parts
        ],
        inputs=column_facts(x, measured[TRAINING].x, source.feature_names, most_rows, whole=bool(letters)),
        targets=column_facts(y, measured[TRAINING].y, names.targets if names else None, most_rows),
        classes=classes,
        vocabulary=len(source.vocabulary) or None,
        network_shape=None if given is None else given.shape[1:],
        network_range=None if network is None else _range(network),
        head=head,
        rows=rows,
        findings=findings_of(evidence),
    )
    return Look(facts, [] if letters else _pictures(x, y, classes))


def _tried(loaded: LoadedJob, source: Source) -> Trial:
    """Prepare the data as a training would, with statistics over a part of them where they are large."""
    reduction, job = SampledReduction(), loaded.job
    try:
        backend = by_numpy(choose_backend(SerialCommunicator()))(job)
        job, spec, splits = load_checked(job, loaded.base, source, backend, reduction, 1)
        check_batch(job.train.batch_size, len(splits.train))
        notes = (*splits.notes, *notes_on(job, spec, splits, reduction))
    except HpcnnError as error:
        return Trial(job, problem=str(error))
    return Trial(job, spec, splits, notes=tuple(note for note in notes if note not in source.notes))


def _parts(source: Source, job: Job) -> list[Part]:
    """Return the training data and the validation data as they are stored."""
    data, train = job.data, job.train
    try:
        plan = window_plan(source, data)
        kept, held_out = (plan.kept, plan.left_out) if plan else split_of(source, data, train.seed, train.arithmetic)
    except HpcnnError:  # the trial says so
        kept = held_out = None
    if kept is None or held_out is None:
        parts = [(TRAINING, source.x, source.y)]
        return parts if source.validation is None else [*parts, (VALIDATION, *source.validation)]

    def some(name: str, index: Indices) -> Part:
        return name, SubsetRows(source.x, index), SubsetRows(source.y, index)

    return [some(TRAINING, kept), some(VALIDATION, held_out)]


def _letters(source: Source, job: Job) -> str:
    """Return the characters that the numbers of a text stand for, bytes as those of Latin-1; empty for other data."""
    if isinstance(job.data, schema.TextFiles) and job.data.units == "byte":
        return "".join(map(chr, range(256)))
    return source.vocabulary


def _range(moments: Moments) -> tuple[float, float] | None:
    whole = moments.overall()
    return (float(whole.low[0]), float(whole.high[0])) if whole.count[0] else None


def _scales_itself(spec: ModelSpec) -> bool:
    network = spec.network
    return isinstance(network, Network) and network.nodes[0].layer.kind in _ANY_SIZE


def _pictures(x: Rows, y: Rows, classes: Sequence[ClassFacts]) -> list[tuple[str, Array]]:
    """Return evenly spaced samples of the training data that are images, from 0 to 1."""
    shape = image_shape(x.shape[1:], None)
    if shape is None or min(shape[:2]) < 4:
        return []
    n = x.shape[0]
    chosen = np.unique(np.linspace(0, n - 1, min(n, MOST_PICTURES)).astype(np.int64))
    values, targets = flat_rows(x, chosen), flat_rows(y, chosen)
    low, high = np.nanmin(values), np.nanmax(values)
    values = np.nan_to_num((values - low) / (high - low if high > low else 1.0), nan=0.0, posinf=1.0, neginf=0.0)
    fields = fields_behind(y)
    names = fields[0].words if fields and fields[0].kind == "words" else [one.name for one in classes]
    texts = [f"{number}: {_label(row, names)}" for number, row in zip(chosen, targets, strict=True)]
    images = values.reshape(-1, *shape)
    return list(zip(texts, images[..., :3] if len(shape) == 3 else images, strict=True))


def _label(row: Array, names: Sequence[str]) -> str:
    if len(row) > 4:
        return f"{len(row)} numbers"
    if len(row) == 1 and names and row[0] == int(row[0]) and 0 <= row[0] < len(names):
        return names[int(row[0])]
    return ", ".join(f"{value:g}" for value in row)

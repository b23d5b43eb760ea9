"""Open a trained model of a run folder, evaluate it and predict with it, on any number of ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from hpcnn.backends.numpy.backend import numpy_backend_of
from hpcnn.comm.collectives import TreeReduction, agree
from hpcnn.comm.protocol import Array, Communicator
from hpcnn.data.columns import Columns
from hpcnn.data.content import Content
from hpcnn.data.load import load, read_inputs, read_samples
from hpcnn.data.readers import read_source
from hpcnn.data.readers.memory import Names
from hpcnn.data.samples import Samples, Scaling, Splits
from hpcnn.data.tables.recipe import Recipe
from hpcnn.data.tables.select import in_order_of
from hpcnn.errors import CheckpointError, HpcnnError
from hpcnn.job.data import Data, TextFiles
from hpcnn.job.model import Model as ModelSection
from hpcnn.job.origin import base_of_model
from hpcnn.job.schema import Job
from hpcnn.runs.build import piece_loader, prepared
from hpcnn.runs.run_folder import RunFolder
from hpcnn.runs.spec import build_spec
from hpcnn.runs.state import Facts, facts_of, job_of, scaling_in
from hpcnn.storage.checkpoint import load_checkpoint
from hpcnn.system.output import ERROR, write_line
from hpcnn.training.backend import BackendOf, ModelSpec
from hpcnn.training.loader import PieceLoader
from hpcnn.training.loop import evaluate
from hpcnn.training.metrics import Value
from hpcnn.training.model import Model
from hpcnn.training.read_once import read_once
from hpcnn.training.same_data import check_same_data, common_content
from hpcnn.training.tuning import use_cores

CHECKPOINTS = ("model", "best", "last")
"""The files of a run that hold weights, in the order of preference."""


@dataclass(frozen=True)
class TrainedModel:
    """A model with its weights, and the job that trained it."""

    job: Job
    base: Path
    """Folder of the job file, which the job's paths are relative to."""
    path: Path
    """The file with the weights."""
    weights_sha256: str
    scaling: Scaling | None
    spec: ModelSpec
    model: Model
    content: Content | None = None
    """Description of the data that it was trained on, to recognise them."""
    recipe: Recipe | None = None
    """What became of the columns of a table."""
    target_scaling: Scaling | None = None
    """Of the targets: what the network gives is in its units, what it predicts is not."""

    @property
    def columns(self) -> Columns | None:
        """Names of the columns that it was trained on, if they had names."""
        return self.content.columns if self.content else None

    @property
    def names(self) -> Names:
        """The names of its inputs and outputs, where it has several."""
        return Names(tuple(self.job.model.inputs), tuple(output.name for output in self.spec.network.outputs))

    @property
    def data(self) -> Data:
        """Settings to read data like those that it was trained on, with the characters that it knows."""
        data = self.job.data
        if isinstance(data, TextFiles) and self.content is not None:
            return msgspec.structs.replace(data, vocabulary=self.content.vocabulary)
        return data


def checkpoint_path(run: Path, which: str = "") -> Path:
    """Return `run` if it is a checkpoint, else its file of weights: `which` of `CHECKPOINTS`, or the first there is."""
    if run.is_file():
        return run
    folder = RunFolder(run)
    files = {"model": folder.model, "best": folder.best, "last": folder.last}
    wanted = [files[which]] if which else [files[name] for name in CHECKPOINTS]
    for path in wanted:
        if path.is_file():
            return path
    if not run.exists():
        raise CheckpointError(f"there is no run {str(run)!r}. Give the folder of a run, or one of its checkpoints.")
    raise CheckpointError(
        f"the run {str(run)!r} holds none of: {', '.join(str(path.relative_to(run)) for path in wanted)}. "
        "Has it reached its first checkpoint?"
    )


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Add the name of the file to errors that lack it."""
    try:
        yield
    except HpcnnError as error:
        if str(path) in str(error):
            raise
        raise CheckpointError(f"{str(path)!r}: {error}") from None


def open_trained(
    path: Path, entry: str = "", *, backend: str = "", backend_of: BackendOf = numpy_backend_of
) -> TrainedModel:
    """Return the model of a checkpoint.

    Args:
        path: the file.
        entry: the Python function that builds the model, if the job names one: a file alone must not run code.
        backend: name of the backend that computes it; empty for the one that trained it.
        backend_of: returns the backend of a job.

    Raises:
        CheckpointError: it is damaged, does not fit its own job, or names another `entry`.
    """
    checkpoint = load_checkpoint(path)
    with named(path):
        facts = facts_of(checkpoint.facts)
        job = job_of(facts.job)
        if backend:
            job = msgspec.structs.replace(job, backend=backend)
        if job.torch.device == "cuda":  # there may be none where a trained model is used
            job = msgspec.structs.replace(job, torch=msgspec.structs.replace(job.torch, device="auto"))
        if entry and not _is_described(job.model):  # of a trainer, whose layers no file can hold
            job = msgspec.structs.replace(job, model=msgspec.structs.replace(job.model, entry=entry))
        _check_entry(path, job.model, entry)
        target_scaling = scaling_in(checkpoint, "target_scaling")
        spec = build_spec(job, facts.input_shape, backend_of(job), target_scaling)
        weights = checkpoint.part("model")
        spec.network.layout.check_state_dict(weights)  # before memory for them is allocated
        model = spec.make_model(job.train.dtype)
        model.load_weights(weights)
        sha256 = model.fingerprint()
        if sha256 != facts.weights_sha256:
            raise CheckpointError(f"{str(path)!r}: the weights do not have the SHA-256 that they were saved with")
        return TrainedModel(
            job,
            base_of_model(path, facts.base),
            path,
            sha256,
            scaling_in(checkpoint),
            spec,
            model,
            facts.data,
            _recipe(facts, spec),
            target_scaling,
        )


def _is_described(model: ModelSection) -> bool:
    return bool(model.layers or model.name or model.entry)


def _check_entry(path: Path, model: ModelSection, given: str) -> None:
    needed = model.entry
    if not _is_described(model):
        raise CheckpointError(
            f"the model in {str(path)!r} has layers of its user's own, which no file can hold. Name the function that "
            "builds it: --entry package.module:function"
        )
    if needed == given:
        return
    if needed:
        raise CheckpointError(
            f"the model in {str(path)!r} is built by Python code, the function {needed!r}. "
            f"If you trust that code, name it: --entry {needed}"
        )
    raise CheckpointError(f"--entry {given}, but no Python function builds the model in {str(path)!r}. Leave it out.")


def _recipe(facts: Facts, spec: ModelSpec) -> Recipe | None:
    recipe = facts.recipe
    features = int(np.prod(spec.network.input_shape))
    if recipe is not None and recipe.columns and len(recipe.features) != features:
        raise CheckpointError(
            f"the checkpoint's columns make {len(recipe.features)} features, but its network takes {features}: it is "
            "damaged. Use another checkpoint of the run."
        )
    return recipe


def open_on_ranks(
    comm: Communicator,
    run: Path,
    which: str,
    entry: str = "",
    *,
    backend: str = "",
    backend_of: BackendOf = numpy_backend_of,
) -> TrainedModel:
    """Open the model of a run's checkpoint (see `checkpoint_path`) on each rank's share of the cores. Collective."""
    trained = agree(
        comm, lambda: open_trained(checkpoint_path(run, which), entry, backend=backend, backend_of=backend_of)
    )
    use_cores(comm, trained.model)
    return trained


def evaluate_trained(trained: TrainedModel, comm: Communicator, data: str | None) -> tuple[str, int, dict[str, Value]]:
    """Return a description of the data, the number of samples, and loss and metrics. Collective, within `agree`.

    `data` names other files than the job's; None: the job's validation data, or its training data without any.
    """
    job, reduction = trained.job, TreeReduction(comm)
    what, samples = _samples(trained, comm, data, reduction)
    _warn(comm, samples.notes)
    samples = prepared(job, trained.spec, samples, f"the targets of {what}", reduction)
    values = evaluate(comm, trained.model, piece_loader(job, trained.spec, samples))
    return what, len(samples), values


def _warn(comm: Communicator, notes: Sequence[str]) -> None:
    for note in notes if comm.rank == 0 else ():
        write_line(f"warning: {note}", ERROR)


def _samples(
    trained: TrainedModel, comm: Communicator, data: str | None, reduction: TreeReduction
) -> tuple[str, Samples]:
    job, scaling = trained.job, trained.scaling
    if data is not None:
        samples = read_samples(
            data,
            trained.data,
            Path(),
            dtype=job.train.dtype,
            scaling=scaling,
            columns=trained.columns,
            features=int(np.prod(trained.spec.network.input_shape)),
            recipe=trained.recipe,
            target_scaling=trained.target_scaling,
            reduction=reduction,
            once=partial(read_once, comm=comm),
        )
        return data, samples
    splits = own_splits(trained, comm)
    if splits.validation is not None:
        return "validation data", splits.validation
    return "training data (the job has no validation data)", splits.train


def own_splits(trained: TrainedModel, comm: Communicator) -> Splits:
    """Return the data of the model's own job; fail if they changed: the split may, too. Collective, within `agree`."""
    job = trained.job
    source = read_once(lambda: in_order_of(read_source(job.data, trained.base), trained.columns), comm)
    remedy = "name their file (--data of evaluate, INPUT of others)"
    if trained.content is not None:  # on all ranks alike; without it, hashing the data is not needed
        check_same_data(trained.content, common_content(source, job.data, comm), job.data, remedy)
    return load(
        job.data,
        seed=job.train.seed,
        dtype=job.train.dtype,
        base=trained.base,
        reduction=TreeReduction(comm),
        scaling=trained.scaling,
        target_scaling=trained.target_scaling,
        source=source,
        arithmetic=job.train.arithmetic,
        recipe=trained.recipe,
    )


def input_loader(trained: TrainedModel, comm: Communicator, path: str) -> PieceLoader:
    """Return a loader of the inputs in a file. Collective; call it within `agree`."""
    job, network = trained.job, trained.spec.network
    inputs = read_inputs(
        path,
        trained.data,
        Path(),
        dtype=job.train.dtype,
        scaling=trained.scaling,
        columns=trained.columns,
        features=int(np.prod(network.input_shape)),
        recipe=trained.recipe,
        reduction=TreeReduction(comm),
        once=partial(read_once, comm=comm),
    )
    _warn(comm, inputs.notes)
    return PieceLoader(
        inputs.x,
        None,
        piece_size=job.train.eval_batch_size,
        input_shape=network.input_shape,
        dtype=job.train.dtype,
        files=inputs.files,
    )


def in_units(trained: TrainedModel, outputs: Array) -> Array:
    """Return outputs of the network in the units of the data."""
    if trained.target_scaling is None:
        return outputs
    return trained.target_scaling.undone(outputs).astype(outputs.dtype)


def predict(trained: TrainedModel, comm: Communicator, loader: PieceLoader) -> Iterator[Array | None]:
    """Yield the outputs in input order, in blocks, on rank 0; None elsewhere. Collective.

    Each rank computes one piece per round. Pieces are the same on any number of ranks, hence also their bits.
    """
    shape = trained.spec.network.output_shape
    for first in range(0, loader.pieces, comm.size):
        piece = first + comm.rank
        if piece < loader.pieces:
            outputs = in_units(trained, trained.model.predict_piece(loader.inputs(piece)))
        else:
            outputs = np.empty((0, *shape), trained.job.train.dtype)
        parts = comm.gather_arrays(outputs)
        yield None if parts is None else np.concatenate(parts)

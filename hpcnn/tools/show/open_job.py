"""Builds the network of a job from the shape of its data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcnn.backends.choice import choose_backend
from hpcnn.comm.exchange.plan import check_shards
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.data.load import SERIAL, recipe_of
from hpcnn.data.readers import read_source
from hpcnn.data.sampler import check_batch
from hpcnn.data.splits import split_of
from hpcnn.data.tables.encode import encoded
from hpcnn.data.time_windows import window_plan
from hpcnn.errors import CommunicatorError, ModelError
from hpcnn.job.load import load_job
from hpcnn.job.schema import Job
from hpcnn.nn.network import Network
from hpcnn.runs.build_checks import settled, with_inputs
from hpcnn.runs.spec import build_spec
from hpcnn.tools.open_run import by_numpy
from hpcnn.training.backend import ModelSpec


@dataclass(frozen=True)
class ShownJob:
    """A job with its network, and how many samples and ranks there are."""

    job: Job
    spec: ModelSpec
    network: Network
    samples: int
    """Of the training data."""
    held_out: int
    """Samples of the validation data."""
    batch: int
    """Samples of a step."""
    ranks: int
    host: str
    """This machine."""
    warning: str = ""
    """That there are more ranks than shards; then `ranks` is as many as can work."""


def open_job(path: Path | None, overrides: Sequence[str], ranks: int) -> ShownJob:
    """Return the job at `path` (None: the digits job), changed by `overrides`, for so many ranks.

    Raises:
        HpcnnError: it can't be built, or is of a model that Keras alone knows.
    """
    comm = SerialCommunicator()
    loaded = load_job(path, overrides)
    data = loaded.job.data
    source = read_source(data, loaded.base)
    train, plan = loaded.job.train, window_plan(source, data)
    n = source.x.shape[0]
    kept, held = (plan.kept, plan.left_out) if plan else split_of(source, data, train.seed, train.arithmetic)
    samples, held_out = n if kept is None else len(kept), 0 if held is None else len(held)
    if source.validation is not None:
        held_out = source.validation[0].shape[0]
    if plan is not None:
        samples, held_out = plan.counts
    recipe = recipe_of(source, data, kept, train.arithmetic)
    source = encoded(source, recipe, "the data", SERIAL)
    job = with_inputs(settled(loaded.job, samples, 1), source.inputs)
    assert isinstance(job.train.shards, int)
    warning = ""
    try:
        check_shards(job.train.shards, ranks)
    except CommunicatorError as error:  # of a training; the network is the same
        warning, ranks = str(error), job.train.shards
    shape = source.x.shape[1:]
    spec = build_spec(
        job, shape if data.window is None else (data.window.steps, *shape), by_numpy(choose_backend(comm))(job)
    )
    if not isinstance(spec.network, Network):
        raise ModelError(
            f"model.entry {job.model.entry!r} returns a model of Keras, which hpcnn show can't look into. Print it by "
            "its own summary(), or give the network as layers of the job."
        )
    return ShownJob(
        job=job,
        spec=spec,
        network=spec.network,
        samples=samples,
        held_out=held_out,
        batch=check_batch(job.train.batch_size, samples),
        ranks=ranks,
        host=comm.host,
        warning=warning,
    )

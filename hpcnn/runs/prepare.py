"""Build the training of a job, and bring it to the state that it starts from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from hpcnn.comm.collectives import agree, variants_or_raise
from hpcnn.comm.protocol import Communicator
from hpcnn.core.activity import SET_UP
from hpcnn.data.content import Content, DataChange
from hpcnn.data.source import Source
from hpcnn.data.tables.select import in_order_of
from hpcnn.errors import CheckpointError
from hpcnn.job.load import LoadedJob
from hpcnn.job.schema import Job
from hpcnn.runs.build import Measured, build_training
from hpcnn.runs.start import Start
from hpcnn.runs.state import Facts, check_same_job, facts_of, job_of, scaling_in, unpack
from hpcnn.storage.checkpoint import Checkpoint, load_checkpoint
from hpcnn.system.output import write_line
from hpcnn.training.backend import Backend, machines_of_ranks
from hpcnn.training.callbacks import Callback
from hpcnn.training.loop import Progress
from hpcnn.training.same_data import check_same_data
from hpcnn.training.training import Training


@dataclass(frozen=True)
class Extras:
    """What a program gives a training beside its job."""

    source: Source | None = None
    """Data in memory, in place of the job's."""
    callbacks: Mapping[str, Callback] = field(default_factory=dict)
    """Called after the job's own; a checkpoint keeps their state by name."""


@dataclass(frozen=True)
class TrainingRequest:
    """What to train, and the number of hosts that its compression groups are chosen for."""

    loaded: LoadedJob
    backend: Backend
    extras: Extras
    hosts: int
    """At the first attempt."""
    accept_changed_data: bool = False
    """Whether a run may be resumed with other data than those of its start."""

    @property
    def survives(self) -> bool:
        """Whether the run continues when ranks are lost."""
        return self.loaded.job.run.on_rank_loss == "continue"


def prepare(comm: Communicator, request: TrainingRequest, start: Start) -> tuple[Training, Progress] | None:
    """Return the training and its state; None if the run is complete, which is printed. Collective."""
    checkpoint = agree(comm, lambda: read_on_all_ranks(comm, start.checkpoint))
    facts = facts_of(checkpoint.facts) if checkpoint else None
    content = facts.data if facts else None
    job = request.loaded.job
    if facts is not None:
        known, says = content is not None, request.loaded.says_arithmetic
        job = agree(comm, lambda: check_same_job(facts.job, job, data_known=known, says_arithmetic=says))
    if _is_complete(comm, start, job):
        return None
    base, extras = request.loaded.base, request.extras
    changed = _ChangedData(request, start, checkpoint, facts)
    order = partial(in_order_of, columns=content.columns if content else None) if facts else None
    training = agree(
        comm,
        lambda: build_training(job, base, comm, request.backend, extras.source, changed.check, request.hosts, order),
    )
    training = replace(training, callbacks={**training.callbacks, **extras.callbacks})
    if checkpoint is not None:
        other = changed.other_samples(training)
        progress = agree(comm, lambda: unpack(checkpoint, training, other_samples=other))
        training = changed.recorded(comm, training, progress)
    else:
        progress = Progress(stats=training.replica.model.layout.zeros())
        training.replica.synchronize()
    _warn_of_differences(comm, facts, training)
    return training, progress


class _ChangedData:
    """Data that may differ from those of the run's start, where the user accepts that."""

    def __init__(
        self, request: TrainingRequest, start: Start, checkpoint: Checkpoint | None, facts: Facts | None
    ) -> None:
        self._section, self._accepts = request.loaded.job.data, request.accept_changed_data
        self._path, self._checkpoint, self._facts = start.checkpoint, checkpoint, facts
        self._texts: list[str] = []

    def check(self, content: Content | None) -> Measured | None:
        """Refuse other data, or return what they are to be scaled and encoded by: as those of the start were."""
        if self._facts is None or self._checkpoint is None:
            return None
        remedy = (
            "go on with --accept-changed-data (hpcnn.fit: accept_changed_data=True), or start a new run, without "
            f"--resume, from these weights if you like: model.initial_weights={self._path}"
        )
        accept = self._accepts
        self._texts = check_same_data(self._facts.data, content, self._section, remedy, accept=accept)
        if not self._texts:
            return None
        target_scaling = scaling_in(self._checkpoint, "target_scaling")
        return Measured(scaling_in(self._checkpoint), self._facts.recipe, target_scaling)

    def other_samples(self, training: Training) -> bool:
        """Return whether the number of training samples changed, so that the order of an epoch did."""
        before, now = (
            content and content.shapes[0][0] for content in (self._facts and self._facts.data, training.content)
        )
        return bool(self._texts) and before != now

    def recorded(self, comm: Communicator, training: Training, progress: Progress) -> Training:
        """Return the training with all changes that were accepted so far; warn of one that is new."""
        earlier = tuple(self._facts.data_changes) if self._facts else ()
        if not self._texts:
            return replace(training, data_changes=earlier)
        text = "; ".join(self._texts)
        if comm.rank == 0:
            write_line(
                f"warning: the data changed since the run was started: {text}. The run goes on with them, scaled as "
                f"before, from step {progress.step_in_epoch + 1} of epoch {progress.epoch + 1}"
            )
        return replace(training, data_changes=(*earlier, DataChange(progress.step, text)))


def on_root(comm: Communicator, action: Callable[[], Any]) -> Any:
    """Return the result of `action` on rank 0, or raise its error on all ranks. Collective."""
    return comm.broadcast(agree(comm, lambda: action() if comm.rank == 0 else None))


def read_on_all_ranks(comm: Communicator, path: Path | None) -> Checkpoint | None:
    """Return the checkpoint at `path`, which must be the same on all ranks: a network file system may lag behind."""
    if path is None:
        return None
    checkpoint = load_checkpoint(path, beat=partial(comm.activity.enter, SET_UP))
    first, *others = variants_or_raise(comm, checkpoint.content_sha256)
    if others:
        raise CheckpointError(
            f"rank {others[0].rank} on {others[0].host} reads another {str(path)!r} than rank 0 on {first.host} does. "
            "Use a folder that all nodes share, and try again once its file system is up to date."
        )
    return checkpoint


def _is_complete(comm: Communicator, start: Start, job: Job) -> bool:
    result = on_root(comm, start.folder.read_result)
    if result is None or result.get("epochs_asked", 0) < job.train.epochs:
        return False
    if comm.rank == 0:
        write_line(f"the run in {start.folder.path} is complete already")
        write_line(f"weights sha256 {result['weights_sha256']}")
    return True


def _warn_of_differences(comm: Communicator, facts: Facts | None, training: Training) -> None:
    """Warn where bits may differ: between the machines of this run, or since the run's start. Collective."""
    machines = machines_of_ranks(comm, training.job, training.spec.backend)
    if comm.rank != 0:
        return
    first, *others = machines
    if others:
        write_line(
            "warning: the ranks run on different machines or libraries, so the bits of the result may depend on which "
            f"rank computes what: rank 0 {first.value}, rank {others[0].rank} {others[0].value}"
        )
    if facts is None:
        return
    before, now = job_of(facts.job), training.job
    if (before.backend, before.keras, before.torch) != (now.backend, now.keras, now.torch):
        write_line(
            f"warning: the run was started with {_mode_of(before)} and is resumed with {_mode_of(now)}, so the bits of "
            "the result differ from those of either alone"
        )
    elif facts.machine != first.value:
        write_line(
            "warning: the run was started on another machine or library, so the bits of the result may differ: "
            f"then {facts.machine}, now {first.value}"
        )


def _mode_of(job: Job) -> str:
    of = {"keras": job.keras, "torch": job.torch}.get(job.backend)
    settings = {} if of is None else msgspec.structs.asdict(of)
    own = "".join(f", {job.backend}.{key} = {value!r}" for key, value in settings.items())
    return f"backend = {job.backend!r}{own}"

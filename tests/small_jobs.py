"""Small jobs, trained on ranks that are threads, to their last bit."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import msgspec

from hpcnn.backends.numpy.backend import NUMPY
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import run_threads
from hpcnn.job.checks import check_job
from hpcnn.job.schema import Job
from hpcnn.runs.build import build_training
from hpcnn.runs.state import pack, unpack
from hpcnn.storage.checkpoint import Checkpoint
from hpcnn.training.callbacks import Callback, StepReport
from hpcnn.training.gradient_pass import Shards
from hpcnn.training.loop import StoppedError, TrainingLoop
from hpcnn.training.training import Training

LAYERS = [
    {"type": "layer_norm"},
    {"type": "dense", "units": 9, "activation": "relu", "kernel_l1": 0.001, "kernel_l2": 0.01, "bias_l2": 0.02},
    {"type": "dropout", "rate": 0.3},
    {"type": "residual", "layers": [{"type": "dense", "units": 9, "activation": "tanh"}]},
    {"type": "dense", "units": 3, "activation": "softmax"},
]
SETTINGS = {
    "data": {"source": "synthetic", "kind": "classification", "samples": 37, "features": 5, "classes": 3, "seed": 2,
             "validation_fraction": 0.2, "scale": "standardize"},
    "model": {"layers": LAYERS},
    "loss": {"name": "sparse_categorical_crossentropy"},
    "optimizer": {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9},
    "train": {"epochs": 2, "batch_size": 13, "shards": 8, "seed": 5, "eval_batch_size": 3, "metrics": ["accuracy"]},
}  # fmt: skip
"""30 samples to train on, in batches of 13, 13 and 4: the last leaves half of the shards empty."""


def make_job(**changes: object) -> Job:
    """Return the job of `SETTINGS` with some settings changed: ``train={"epochs": 3}``; None takes one away."""
    table = {section: dict(values) for section, values in SETTINGS.items()}
    for section, values in changes.items():
        assert isinstance(values, dict)
        fresh = {"source", "name"} & values.keys() and section != "run"  # another kind of section: start anew
        merged = ({} if fresh else table.get(section, {})) | values
        table[section] = {key: value for key, value in merged.items() if value is not None}
    table = {section: values for section, values in table.items() if values or section != "loss"}
    job = msgspec.convert(table, Job)
    check_job(job)
    return job


@dataclass
class Outcome:
    """What a training came to: the same on all ranks."""

    done: bool
    fingerprint: str
    state: Checkpoint
    """The last that was saved, or the state at the end if nothing was."""
    reports: list = field(default_factory=list)
    states: list = field(default_factory=list)
    """All that were saved, kept in memory."""
    saves: list = field(default_factory=list)
    """``(step, best, last)`` of each checkpoint."""

    def bits(self) -> dict:
        """Return weights, optimizer state, sums and callbacks' arrays, byte by byte, with what JSON holds."""
        tensors = {name: (array.shape, array.tobytes()) for name, array in self.state.tensors.items()}
        return tensors | {"progress": self.state.facts["progress"], "callbacks": self.state.facts["callbacks"]}


def fetched(state):
    """Return copies of lazy arrays by name; None on a rank that has not all of them."""
    arrays = {name: lazy.whole() for name, lazy in state.items()}
    return None if any(array is None for array in arrays.values()) else arrays


def collected(training, progress):
    """Return the whole state in memory; None on a rank that has not all of it."""
    draft = pack(training, Path(), progress)
    tensors = fetched(draft.arrays)
    sha256 = {"weights_sha256": training.replica.model.fingerprint()}
    return tensors and Checkpoint(tensors, dict(draft.facts) | sha256)


def runs_through(loop):
    """Train, and return whether it was to the end."""
    try:
        loop.run()
    except StoppedError:
        return False
    return True


@dataclass
class Keeper:
    """Keeps every state that the trainer would have saved, in memory."""

    training: Training
    states: list = field(default_factory=list)
    saves: list = field(default_factory=list)
    """``(step, best, last)`` of each."""

    def due(self, step):
        every = self.training.job.run.checkpoint_every_steps
        return bool(every) and step % every == 0

    def __call__(self, progress, *, best=False, last=False, wait=False):
        self.states.append(collected(self.training, progress))
        self.saves.append((progress.step, best, last))


class Reports(Callback):
    def __init__(self):
        self.reports = []

    def on_epoch_end(self, report, replica, control):
        self.reports.append(report)


def train(
    job: Job,
    ranks: int = 1,
    *,
    start: Checkpoint | None = None,
    stop_at: int = 0,
    asked: int = 0,
    late: bool = False,
    callbacks=(),
    prepare=None,
    saver=None,
    backend=NUMPY,
) -> Outcome:
    """Train `job` on `ranks` threads, from `start` on.

    Args:
        job: what to train.
        ranks: how many threads.
        start: a checkpoint to go on from.
        stop_at: the step after which to stop; 0 for none. Only the rank `asked` is asked to.
        asked: see `stop_at`.
        late: ask only when the step is done; if it ends an epoch, before the evaluation.
        callbacks: added after the job's own.
        prepare: called with the built training on each rank.
        saver: called with the built training and the ranks, returns what saves in place of a `Keeper`.
        backend: what computes.
    """

    def body(comm):
        training = build_training(job, Path(), comm, backend)
        if prepare is not None:
            prepare(training)
        progress = unpack(start, training) if start else None
        outcome, reports = Outcome(False, "", None), Reports()
        stop = SimpleNamespace(requested=False)

        class Stopper(Callback):
            """Asks before the step, and not before an evaluation, which it would break off."""

            def on_step(self, report):
                if late:
                    self.ask(loop.progress.step)
                elif report.step_in_epoch < training.shards.steps_per_epoch:
                    self.ask(loop.progress.step + 1)

            def on_epoch_end(self, report, replica, control):
                self.ask(report.step + (not late))

            def ask(self, step):
                stop.requested = 0 < stop_at <= step and comm.rank == asked

        keeper = Keeper(training, outcome.states, outcome.saves)
        loop = TrainingLoop(
            training,
            comm,
            callbacks=[*training.callbacks.values(), *callbacks, reports, Stopper()],
            save=saver(training, comm) if saver else keeper,
            should_stop=lambda: stop.requested,
        )
        loop.progress = progress or loop.progress
        stop.requested = 0 < stop_at <= loop.progress.step + (not late) and comm.rank == asked
        outcome.done = runs_through(loop)
        outcome.fingerprint = training.replica.model.fingerprint()
        outcome.reports = reports.reports
        outcome.state = outcome.states[-1] if outcome.states else collected(training, loop.progress)
        return outcome

    outcomes = [body(SerialCommunicator())] if ranks == 1 else run_threads(ranks, body)
    first = outcomes[0]
    for other in outcomes[1:]:
        assert other.done == first.done
        assert other.fingerprint == first.fingerprint
        assert other.state is None or other.bits() == first.bits()
        assert other.saves == first.saves
    return first


def build(job: Job) -> Training:
    """Return a training on one rank."""
    return build_training(job, Path(), SerialCommunicator())


def at_step(step_in_epoch):
    """Return the report of a step, for callbacks that do not ask for its values."""
    return StepReport(1, step_in_epoch, step_in_epoch, None, 1.0, None)


def cut(x, y, shards, weights=None):
    """Return what loads gradient shards of one batch, as a step wants it: the same arrays each time."""

    @cache
    def load(first, stop):
        starts = tuple(len(x) * shard // shards for shard in range(first, stop + 1))
        part = slice(starts[0], starts[-1])
        return Shards(x[part], y[part], starts, None if weights is None else weights[part])

    return load

"""`hpcnn.fit`: a training from a program, with the guarantees of the command."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path

import msgspec
from numpy.typing import ArrayLike

from hpcnn.api.fitted import Fitted, fitted_of
from hpcnn.api.jobs import AnyJob, GivenData, Overrides, check_alike, prepare_job
from hpcnn.api.ranks import connect, listening
from hpcnn.api.sharing import collective, own
from hpcnn.backends.choice import choose_backend
from hpcnn.comm.collectives import agree
from hpcnn.comm.protocol import Communicator
from hpcnn.comm.supervision.watched_rank import watched_rank
from hpcnn.core.activity import SET_UP, Activity
from hpcnn.data.readers.memory import Pair, Validation
from hpcnn.data.source import Source
from hpcnn.errors import EXIT_DONE, EXIT_STOPPED, CheckpointError, HpcnnError
from hpcnn.job.load import LoadedJob
from hpcnn.nn.network import Network
from hpcnn.runs.prepare import Extras
from hpcnn.runs.resumed_job import job_of_run
from hpcnn.runs.session import Outcome, train
from hpcnn.system.blas import one_thread
from hpcnn.training.callbacks import Callback


class TrainingStoppedError(HpcnnError, RuntimeError):
    """The training was stopped on the way: by a signal, a limit of time or a setting. It can be gone on with."""

    exit_code = EXIT_STOPPED

    def __init__(self, fitted: Fitted, step: int, *, saved: bool) -> None:
        self.fitted = fitted
        """The model as it was after the last step."""
        state = "its state is saved" if saved else "its state could NOT be saved"
        super().__init__(
            f"the training was stopped after step {step}, {len(fitted.history)} epochs done, and {state} in "
            f"{str(fitted.folder)!r}. Go on with the same call and out={str(fitted.folder)!r}, resume='auto'."
        )


def fit(
    job: AnyJob | None = None,
    data: Pair | None = None,
    *,
    network: Network | None = None,
    validation: Validation | None = None,
    sample_weight: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    out: str | PathLike[str] | None = None,
    resume: str | PathLike[str] = "never",
    callbacks: Sequence[Callback] = (),
    overrides: Overrides = (),
    accept_changed_data: bool = False,
) -> Fitted:
    """Train a network as ``hpcnn train`` does: the same bits, files and display. To be called on all ranks alike.

    Args:
        job: path of a job file, or a dict of its sections, of which loss, optimizer and schedule may be a name alone.
            If left out: that of the run that is gone on with; with a network, the loss that suits its head and
            defaults; else the digits job.
        data: inputs of shape ``(n, *features)`` and targets of shape ``(n, ...)``, in place of the job's source of
            data. All ranks give the same.
        network: an `hpcnn.nn.Network` of hpcnn's own layers, in place of the job's model. The run keeps it as the
            ``[model]`` of its job, so that resuming, `hpcnn.load` and all commands read it like any other.
        validation: such a pair to validate with; or ``(x, y, weights)``.
        sample_weight: how much each sample counts in the loss and the metrics, shape ``(n,)``.
        groups: for each sample a number or a word: ``data.validation_split = "group"`` keeps equal ones together.
        out: run folder to write; ``runs/<name of the job>`` if left out, numbered if taken.
        resume: ``"auto"`` resumes the newest run of this name, or in `out`, else begins one; a path resumes
            that run or checkpoint; ``"never"`` begins a new run and overwrites nothing.
        callbacks: told of the training on all ranks, after the job's own.
        overrides: changes to the job, as ``{"train.epochs": 5}``.
        accept_changed_data: whether a run may be resumed with other data than those of its start, with a warning.

    Returns:
        The trained model.

    Raises:
        TrainingStoppedError: it was stopped before its end, by Ctrl-C for example. Has what there is.
        HpcnnError: something does not fit; on all ranks alike.

    >>> from hpcnn.nn import Dense, Network
    >>> x = [[0.0], [1.0], [2.0], [3.0]]
    >>> line = Network([Dense(1)], input_shape=(1,))
    >>> job = {"loss": "mse",
    ...        "train": {"epochs": 50, "batch_size": "full"}, "optimizer": {"name": "sgd", "learning_rate": 0.1},
    ...        "run": {"display": "quiet"}}
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fitted = fit(job, (x, [1.0, 3.0, 5.0, 7.0]), network=line, out=f"{folder}/line")  # doctest: +ELLIPSIS
    weights sha256 ...
    >>> fitted.predict([[10.0]]).round()
    array([[21.]], dtype=float32)
    """
    comm = own(connect())
    place = _place(out)
    job = job_of_run(place, str(resume)) if job is None else job

    def prepare() -> tuple[LoadedJob, Source | None]:
        prepared = prepare_job(job, overrides, GivenData(data, validation, sample_weight, groups), network)
        abort_s = prepared[0].job.run.stall_abort_s
        watched_rank.limit(abort_s, watched=True)  # until the program's end: for ranks that are stopped
        limit.enter_context(watched_rank.limited(abort_s))  # others may never come to `agree`
        return prepared

    with collective(comm, "hpcnn.fit"), one_thread(), listening() as stop, _afresh(comm.activity), ExitStack() as limit:
        loaded, source = agree(comm, prepare)
        if comm.size == 1:
            loaded = _unending(loaded)
        names = _named(callbacks)
        agree(
            comm,
            lambda: check_alike(
                comm, loaded.job, out=str(out), resume=str(resume), callbacks=[*names], accept=accept_changed_data
            ),
        )
        backend = agree(comm, lambda: choose_backend(comm)(loaded.job))
        extras = Extras(source, names)
        outcome = train(
            loaded,
            comm,
            out=place,
            resume=str(resume),
            stop=stop,
            backend=backend,
            extras=extras,
            accept_changed_data=accept_changed_data,
        )
        return _result(comm, outcome, loaded.base)


def _place(out: str | PathLike[str] | None) -> Path | None:
    if out is not None and not str(out):
        raise CheckpointError("out='' is no folder. Give a path, '.' for this folder, or leave it out for a new one.")
    return None if out is None else Path(out)


@contextmanager
def _afresh(activity: Activity) -> Iterator[None]:
    """Account for one training alone, and let nobody who watched it do so after it, though it fails."""
    activity.enter(SET_UP)
    activity.seconds.clear()
    activity.epoch = activity.step = 0
    on_enter = activity.on_enter
    try:
        yield
    finally:
        activity.on_enter, activity.exchange_thread = on_enter, None


def _result(comm: Communicator, outcome: Outcome, base: Path) -> Fitted:
    fitted = fitted_of(comm, outcome, base)
    if outcome.exit_code != EXIT_DONE:
        raise TrainingStoppedError(fitted, outcome.progress.step, saved=outcome.exit_code == EXIT_STOPPED)
    return fitted


def _unending(loaded: LoadedJob) -> LoadedJob:
    """Return the job without the end that the watchdog makes of a process: it may be a notebook's, in a debugger."""
    run = msgspec.structs.replace(loaded.job.run, stall_abort_s=0.0)
    return replace(loaded, job=msgspec.structs.replace(loaded.job, run=run))


def _named(callbacks: Sequence[Callback]) -> dict[str, Callback]:
    counts: Counter[str] = Counter()
    names: dict[str, Callback] = {}
    for callback in callbacks:
        kind = type(callback).__name__
        counts[kind] += 1
        names[f"{kind}_{counts[kind]}"] = callback
    return names

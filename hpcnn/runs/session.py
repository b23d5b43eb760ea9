"""A run on ranks that may be lost on the way: where it starts from, and how those left go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from hpcnn.backends.numpy.backend import NUMPY
from hpcnn.comm.collectives import agree, gather_or_raise
from hpcnn.comm.protocol import Communicator
from hpcnn.comm.supervision.watched_rank import supervision
from hpcnn.core.activity import RECOVER, SET_UP
from hpcnn.core.stop_request import StopRequest
from hpcnn.data.source import Source
from hpcnn.errors import EXIT_DONE, CheckpointError
from hpcnn.job.load import LoadedJob
from hpcnn.job.schema import Job, Train
from hpcnn.runs.build import Training, build_replica, build_training, resolve_groups, resolve_shards
from hpcnn.runs.lease.keeper import LeaseKeeper
from hpcnn.runs.lease.lease import acquire
from hpcnn.runs.loggers import check_loggers
from hpcnn.runs.records.metrics_log import MetricsLog
from hpcnn.runs.records.time_log import TimeLog
from hpcnn.runs.run import Records, Run
from hpcnn.runs.run_folder import RunFolder
from hpcnn.runs.snapshot import Carried, carry, check_survivable, load, share
from hpcnn.runs.start import Start, choose_start
from hpcnn.runs.state import check_same_job, facts_of, job_of, unpack
from hpcnn.runs.timeline.timeline import Timeline
from hpcnn.runs.watchdog import Watchdog
from hpcnn.storage.checkpoint import Checkpoint, load_checkpoint
from hpcnn.system.output import write_line
from hpcnn.system.process_identity import Process
from hpcnn.training.backend import Backend, measured_on
from hpcnn.training.callbacks import Callback
from hpcnn.training.same_data import check_same_data
from hpcnn.training.trainer import Progress
from hpcnn.training.tuning import use_cores


def train(
    loaded: LoadedJob,
    comm: Communicator,
    *,
    out: Path | None,
    resume: str,
    stop: StopRequest | None = None,
    backend: Backend = NUMPY,
    extras: Extras | None = None,
) -> Outcome:
    """Train the job, or go on with it. Collective.

    Args:
        loaded: the job.
        comm: the ranks.
        out: the run folder; None for a new one in `RUNS`.
        resume: ``auto``, ``never``, or what to go on with.
        stop: this rank's wish to stop.
        backend: what computes.
        extras: what a program adds to the job.
    """
    session = _Session(loaded, comm, out, resume, stop or StopRequest(), backend, extras or Extras())
    try:
        while True:
            try:
                exit_code = session.attempt()
            except Exception as error:
                if not session.recover(error):
                    raise
            else:
                return session.outcome(exit_code)
    finally:
        session.close()


@dataclass(frozen=True)
class Extras:
    """What a program gives a training beside its job."""

    source: Source | None = None
    """Data that are in memory, in place of the job's."""
    callbacks: Mapping[str, Callback] = field(default_factory=dict)
    """Told of the training after the job's own; a checkpoint keeps their state by name."""


@dataclass(frozen=True)
class Outcome:
    """What a session came to."""

    exit_code: int
    folder: RunFolder
    progress: Progress
    training: Training | None
    """None if there was nothing left to do."""


class _Session:
    """What a rank needs in order to begin a run, and to go on with it when others are lost."""

    def __init__(
        self,
        loaded: LoadedJob,
        comm: Communicator,
        out: Path | None,
        resume: str,
        stop: StopRequest,
        backend: Backend,
        extras: Extras,
    ) -> None:
        self._loaded, self._comm, self._out, self._resume, self._stop = loaded, comm, out, resume, stop
        self._backend, self._extras = backend, extras
        self._begin = time.perf_counter()
        self._ranks, self._hosts = comm.size, comm.hosts
        """As they were at first: settings that are left open are made for them."""
        self._start: Start | None = None
        self._processes: list[Process] = []
        """Those that may come to write to the run folder."""
        self._keeper: LeaseKeeper | None = None
        """Of the folder's lease, on the rank that writes."""
        self._records: Records | None = None
        self._training: Training | None = None
        self._progress = Progress()
        self._carried: Carried | None = None
        """The state to go on with after a loss."""
        self._lost: list[str] = []
        self._lost_at = 0.0

    def attempt(self) -> int:
        """Do all that is left to do, watched over, and return the exit code."""
        run = self._loaded.job.run
        abort_s, spare = run.stall_abort_s, self._survives
        limited = partial(supervision.limited, abort_s, spare=spare)
        watchdog = partial(Watchdog, self._comm, warn_s=run.stall_warn_s, abort_s=abort_s, spare=spare)
        with limited(), watchdog(stop=self._stop), limited(watched=True):
            return self._attempt()

    def close(self) -> None:
        """Let others have the run folder."""
        if self._keeper is not None:
            self._keeper.close()

    def outcome(self, exit_code: int) -> Outcome:
        """Return what was made, with the exit code of the last attempt."""
        assert self._start is not None
        return Outcome(exit_code, self._start.folder, self._progress, self._training)

    def _attempt(self) -> int:
        recovered = bool(self._lost)
        if recovered:
            self._regroup()
        if self._training is None:
            code = self._set_up()
            if code is not None:
                return code
        assert self._training is not None
        assert self._start is not None
        assert self._records is not None
        comm, training, progress = self._comm, self._training, self._progress
        run = Run(training, comm, self._start.folder, self._loaded.base, self._records, self._keeper)
        agree(comm, lambda: run.begin(progress.epoch, recovered=recovered))
        crowded = use_cores(comm, training.replica)
        if not recovered:
            run.say_notes(crowded)
        self._stop.begin_training()
        done = run.go(progress, self._stop, recovered=recovered)
        return run.finish(progress, time.perf_counter() - self._begin) if done else run.stopped(progress, self._stop)

    # ------------------------------------------------------------------------------------------------------- set-up

    def _set_up(self) -> int | None:
        """Build the training and bring it to where it starts from; return an exit code if nothing is left to do."""
        comm, base = self._comm, self._loaded.base
        agree(comm, lambda: check_survivable(self._loaded.job, comm))
        agree(comm, lambda: check_loggers(self._loaded.job.run.loggers))
        if self._start is None:
            self._processes = comm.allgather(Process.own())[: None if self._survives else 1]
            self._start = comm.broadcast(agree(comm, lambda: _on_root(comm, self._choose_start)))
        folder, path = self._start.folder, self._start.checkpoint
        checkpoint = agree(comm, lambda: _same_everywhere(comm, path))
        job = self._resolve(checkpoint)
        before = None
        if checkpoint is not None:
            before = facts_of(checkpoint.facts).data
            agree(comm, lambda: check_same_job(checkpoint.facts["job"], job, data_known=before is not None))
        finished = comm.broadcast(agree(comm, lambda: _on_root(comm, folder.read_result)))
        if finished is not None and finished.get("epochs_asked", 0) >= job.train.epochs:
            if comm.rank == 0:
                write_line(f"the run in {folder.path} is complete already")
                write_line(f"weights sha256 {finished['weights_sha256']}")
            return EXIT_DONE
        remedy = f"start a new run, without --resume, from these weights if you like: model.initial_weights={path}"
        check = partial(check_same_data, before, section=job.data, remedy=remedy)
        training = agree(comm, lambda: build_training(job, base, comm, self._backend, self._extras.source, check))
        training = replace(training, callbacks={**training.callbacks, **self._extras.callbacks})
        if checkpoint is not None:
            self._progress = agree(comm, lambda: unpack(checkpoint, training))
        else:
            self._progress = Progress(totals=training.replica.layout.zeros())
            training.replica.synchronize()
        _warn_of_machines(comm, checkpoint, training)
        self._training = training
        self._records = self._records or self._make_records(folder, training)
        return None

    def _make_records(self, folder: RunFolder, training: Training) -> Records:
        comm, run = self._comm, training.job.run
        timeline = Timeline(comm, folder, training.model.network, run.timeline_steps) if run.timeline else None
        return Records(MetricsLog(folder, comm if self._survives else None), TimeLog(comm, folder), timeline)

    def _choose_start(self) -> Start:
        beat = partial(self._comm.activity.enter, SET_UP)
        claim = partial(acquire, processes=self._processes, beat=beat, say=write_line)
        start = choose_start(self._loaded.job.name, self._out, self._resume, claim)
        self._keep_lease(start)
        return start

    def _keep_lease(self, start: Start) -> None:
        assert start.lease is not None
        if self._keeper is None:
            self._keeper = LeaseKeeper(start.lease, self._processes)

    @property
    def _survives(self) -> bool:
        """Whether the run goes on if ranks are lost."""
        return self._loaded.job.run.on_rank_loss == "continue"

    def _resolve(self, checkpoint: Checkpoint | None) -> Job:
        """Return the job with its open settings made: as they were at the run's start."""
        before = job_of(facts_of(checkpoint.facts).job).train if checkpoint else Train()
        job = resolve_shards(self._loaded.job, self._ranks if before.shards == "auto" else before.shards)
        first = before.compression_groups  # as many as there were hosts at the start, if they were open
        return agree(self._comm, lambda: resolve_groups(job, self._hosts if first == "auto" else first))

    # ---------------------------------------------------------------------------------------------- when ranks die

    def recover(self, error: BaseException) -> bool:
        """Return whether `error` is the loss of ranks, and those left are to make another attempt."""
        if not self._survives:
            return False
        if not self._lost:
            self._lost_at = time.perf_counter()
        if self._carried is None and self._training is not None:
            self._carried = carry(self._training, self._progress)
        age = self._carried.age if self._carried else (-1, int(self._start is not None))
        lost = self._comm.recover(error, age)
        self._lost += lost
        return bool(lost)

    def _regroup(self) -> None:
        """Agree with the others that are left on where to go on from, and get there. Collective."""
        comm = self._comm
        with comm.activity.during(RECOVER):
            self._start = comm.broadcast(self._start)
            if comm.rank == 0 and self._start is not None:
                self._keep_lease(self._start)
            everyone = comm.allgather(self._carried is not None)
            if all(everyone):
                self._rebuild()
            else:  # some were not ready yet to train, so nobody has
                self._training = self._carried = None
        if comm.rank == 0:
            left = f"the {comm.size} ranks that are left go on" if comm.size > 1 else "the rank that is left goes on"
            step = f"from step {self._progress.step + 1}" if self._training else "from the start"
            seconds = time.perf_counter() - self._lost_at
            write_line(f"warning: lost {', '.join(self._lost)}; {left} after {seconds:.3f} s, {step}")
        self._lost = []
        if comm.size < self._loaded.job.run.min_ranks:
            self._stop.ask("fewer ranks than run.min_ranks")

    def _rebuild(self) -> None:
        """Make a replica for the ranks that are left, and bring it to the carried state."""
        assert self._carried is not None
        assert self._training is not None
        self._carried = share(self._comm, self._carried)
        training = self._training
        replica = build_replica(training.job, training.model, self._comm, training.class_weights)
        self._training = replace(training, replica=replica)
        self._progress = load(self._carried, self._training)
        self._carried = None


def _on_root(comm: Communicator, action: Callable[[], Any]) -> Any:
    return action() if comm.rank == 0 else None


def _same_everywhere(comm: Communicator, path: Path | None) -> Checkpoint | None:
    """Return the checkpoint at `path`, which every rank must see alike: a network file system may lag behind."""
    if path is None:
        return None
    checkpoint = load_checkpoint(path, beat=partial(comm.activity.enter, SET_UP))
    hashes = gather_or_raise(comm, (checkpoint.content_sha256, comm.host))
    for rank, (sha256, host) in enumerate(hashes):
        if sha256 != hashes[0][0]:
            raise CheckpointError(
                f"rank {rank} on {host} reads another {str(path)!r} than rank 0 on {hashes[0][1]} does. "
                "Use a folder that all nodes share, and try again once it is in step."
            )
    return checkpoint


def _warn_of_machines(comm: Communicator, checkpoint: Checkpoint | None, training: Training) -> None:
    """Say so where bits may differ: unlike machines in this run, or since the run's start. Collective."""
    machines = comm.allgather(measured_on(training.model.backend))
    if comm.rank != 0:
        return
    if any(machine != machines[0] for machine in machines):
        rank = next(rank for rank, machine in enumerate(machines) if machine != machines[0])
        write_line(
            "warning: the ranks run on unlike machines, so the bits of the result may depend on which does what: "
            f"rank 0 {machines[0]}, rank {rank} {machines[rank]}"
        )
    if checkpoint is None:
        return
    before, now = job_of(facts_of(checkpoint.facts).job), training.job
    if (before.backend, before.keras) != (now.backend, now.keras):
        write_line(
            f"warning: the run was started with {_mode_of(before)} and goes on with {_mode_of(now)}, so the bits of "
            "the result differ from those of either alone"
        )
    elif checkpoint.facts.get("machine") != machines[0]:
        write_line(
            "warning: the run was started on another machine or library, so the bits of the result may differ: "
            f"then {checkpoint.facts.get('machine')}, now {machines[0]}"
        )


def _mode_of(job: Job) -> str:
    return f"backend = {job.backend!r}" + (f", keras.comm = {job.keras.comm!r}" if job.backend == "keras" else "")

"""Train a job in a run folder, again on the surviving ranks whenever some are lost."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from hpcnn.backends.numpy.backend import NUMPY
from hpcnn.comm.collectives import agree
from hpcnn.comm.protocol import Communicator
from hpcnn.comm.supervision.watched_rank import watched_rank
from hpcnn.core.activity import RECOVER, SET_UP
from hpcnn.core.stop_request import StopRequest
from hpcnn.errors import EXIT_DONE
from hpcnn.job.load import LoadedJob
from hpcnn.job.schema import sums_by_library
from hpcnn.runs.build import build_replica
from hpcnn.runs.lease.keeper import LeaseKeeper
from hpcnn.runs.lease.lease import acquire
from hpcnn.runs.loggers import check_loggers
from hpcnn.runs.memory import memory_notes
from hpcnn.runs.prediction.model import Sums
from hpcnn.runs.prediction.record import measuring
from hpcnn.runs.prepare import Extras, TrainingRequest, on_root, prepare
from hpcnn.runs.records.metrics_log import MetricsLog
from hpcnn.runs.records.time_log import TimeLog
from hpcnn.runs.run import Records, Run
from hpcnn.runs.run_context import RunContext
from hpcnn.runs.run_folder import RunFolder
from hpcnn.runs.snapshot import age, check_survivable, share, take_snapshot
from hpcnn.runs.start import Start, choose_start
from hpcnn.runs.state import unpack
from hpcnn.runs.timeline.timeline import Timeline
from hpcnn.runs.watchdog import Watchdog
from hpcnn.storage.checkpoint import Checkpoint
from hpcnn.system.output import write_line
from hpcnn.system.processes import Process
from hpcnn.training.backend import Backend
from hpcnn.training.loop import Progress
from hpcnn.training.staging import unstage
from hpcnn.training.training import Training
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
    accept_changed_data: bool = False,
) -> Outcome:
    """Train the job, or resume it. Collective.

    `out` is the run folder, None for a new one in `RUNS`; `resume` is ``auto``, ``never``, or the run or checkpoint to
    resume; `extras` is what a program adds to the job. With `accept_changed_data`, a run goes on with other data than
    those of its start.
    """
    request = TrainingRequest(loaded, backend, extras or Extras(), comm.hosts, accept_changed_data)
    session = _Session(request, comm, out, resume, stop or StopRequest())
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
class Outcome:
    """The result of `train`."""

    exit_code: int
    folder: RunFolder
    progress: Progress
    training: Training | None
    """None if the run was complete already."""


class _Session:
    """What a rank keeps from one attempt to the next, which follows when other ranks are lost."""

    def __init__(
        self, request: TrainingRequest, comm: Communicator, out: Path | None, resume: str, stop: StopRequest
    ) -> None:
        self._request, self._comm, self._out, self._resume, self._stop = request, comm, out, resume, stop
        self._run_section = request.loaded.job.run
        self._begin = time.perf_counter()
        self._start: Start | None = None
        self._processes: list[Process] = []
        """The processes that may write to the run folder, now or once others are lost."""
        self._keeper: LeaseKeeper | None = None
        """Of the folder's lease, on the rank that writes."""
        self._records: Records | None = None
        self._training: Training | None = None
        self._progress = Progress()
        self._snapshot: Checkpoint | None = None
        """The state to resume from after a loss."""
        self._lost: list[str] = []
        self._lost_at = 0.0

    def attempt(self) -> int:
        """Do all that is left to do, under the watchdog, and return the exit code."""
        run, spare = self._run_section, self._request.survives
        limited = partial(watched_rank.limited, run.stall_abort_s, spare=spare)
        watchdog = partial(Watchdog, self._comm, warn_s=run.stall_warn_s, abort_s=run.stall_abort_s, spare=spare)
        with limited(), watchdog(stop=self._stop), limited(watched=True):
            return self._train()

    def close(self) -> None:
        unstage()
        if self._keeper is not None:
            self._keeper.close()

    def outcome(self, exit_code: int) -> Outcome:
        assert self._start is not None
        return Outcome(exit_code, self._start.folder, self._progress, self._training)

    def _train(self) -> int:
        recovered = bool(self._lost)
        if recovered:
            self._regroup()
        if self._training is None:
            self._prepare()
        if self._training is None:
            return EXIT_DONE
        assert self._start is not None
        comm, training, progress, folder = self._comm, self._training, self._progress, self._start.folder
        self._records = self._records or self._make_records(folder, training)
        run = Run(RunContext(comm, training, folder, self._request.loaded.base, self._keeper), self._records)
        agree(comm, lambda: run.prepare_folder(progress.epoch, recovered=recovered))
        crowded = use_cores(comm, training.replica.model)
        if not recovered:
            run.print_notes(crowded, *memory_notes(comm, training))
        self._stop.begin_training()
        if run.train(progress, self._stop, save_first=recovered or self._killed_in_last_save()):
            return run.complete(progress, time.perf_counter() - self._begin)
        return run.report_stop(progress, self._stop)

    # ------------------------------------------------------------------------------------------------------- set-up

    def _prepare(self) -> None:
        """Choose the run folder and build the training; there is none if the run is complete already."""
        comm, survives = self._comm, self._request.survives
        agree(comm, lambda: check_survivable(self._request.loaded.job, comm))
        agree(comm, lambda: check_loggers(self._run_section.loggers))
        if self._start is None:
            own = Process.own()
            self._processes = comm.allgather(own) if survives else [comm.broadcast(own)]
            self._start = on_root(comm, self._choose_start)
        prepared = prepare(comm, self._request, self._start)
        if prepared is not None:
            self._training, self._progress = prepared

    def _choose_start(self) -> Start:
        beat = partial(self._comm.activity.enter, SET_UP)
        claim = partial(acquire, processes=self._processes, beat=beat, say=write_line)
        start = choose_start(self._request.loaded.job.name, self._out, self._resume, claim)
        self._keep_lease(start)
        return start

    def _keep_lease(self, start: Start) -> None:
        assert start.lease is not None
        if self._keeper is None:
            self._keeper = LeaseKeeper(start.lease, self._processes)

    def _killed_in_last_save(self) -> bool:
        """Return whether the run may have been killed before its last state got all of its names."""
        start, training, progress = self._start, self._training, self._progress
        assert start is not None
        assert training is not None
        done = progress.epoch >= training.job.train.epochs or bool(progress.finish)
        return done and start.checkpoint in (start.folder.best, start.folder.last)

    def _make_records(self, folder: RunFolder, training: Training) -> Records:
        comm, run = self._comm, training.job.run
        timeline = Timeline(comm, folder, training.spec.network, run.timeline_steps) if run.timeline else None
        heirs = comm if self._request.survives else None
        measured = training.noise_scale is not None and not sums_by_library(training.job)
        measure = measuring(training.shards.batch_size, Sums.of(training.spec)) if measured else None
        return Records(MetricsLog(folder, heirs), TimeLog(comm, folder, measure), timeline)

    # ---------------------------------------------------------------------------------------------- when ranks die

    def recover(self, error: BaseException) -> bool:
        """Return whether `error` is the loss of ranks, so that the survivors make another attempt."""
        if not self._request.survives:
            return False
        if not self._lost:
            self._lost_at = time.perf_counter()
        if self._snapshot is None and self._training is not None:
            self._snapshot = take_snapshot(self._training, self._progress)
        reached = age(self._snapshot) if self._snapshot else (-1, int(self._start is not None))
        lost = self._comm.fault_tolerance.recover(error, reached)
        self._lost += lost
        return bool(lost)

    def _regroup(self) -> None:
        """Agree with the other survivors on the state to resume from, and load it. Collective."""
        comm = self._comm
        with comm.activity.during(RECOVER):
            self._start = comm.broadcast(self._start)
            if comm.rank == 0 and self._start is not None:
                self._keep_lease(self._start)
            if all(comm.allgather(self._snapshot is not None)):
                self._rebuild()
            else:  # a rank was not ready to train yet, so none has trained
                self._training = self._snapshot = None
        if comm.rank == 0:
            left = f"the {comm.size} remaining ranks resume" if comm.size > 1 else "the remaining rank resumes"
            step = f"from step {self._progress.step + 1}" if self._training else "from the start"
            seconds = time.perf_counter() - self._lost_at
            write_line(f"warning: lost {', '.join(self._lost)}; {left} after {seconds:.3f} s, {step}")
        self._lost = []
        if comm.size < self._run_section.min_ranks:
            self._stop.ask("fewer ranks than run.min_ranks")

    def _rebuild(self) -> None:
        assert self._snapshot is not None
        assert self._training is not None
        self._snapshot = share(self._comm, self._snapshot)
        training = self._training
        replica = build_replica(training.job, training.spec, self._comm, training.class_weights)
        self._training = replace(training, replica=replica)
        self._progress = unpack(self._snapshot, self._training)
        self._snapshot = None

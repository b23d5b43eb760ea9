"""One training, from where it stands to its end or a stop: checkpoints, display, log, result."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpcnn import __version__
from hpcnn.comm.collectives import agree, gather_or_raise
from hpcnn.comm.protocol import Communicator
from hpcnn.core.stop_request import StopRequest
from hpcnn.errors import EXIT_DONE, EXIT_FAILURE, EXIT_STOPPED, CheckpointError, DriftError
from hpcnn.job.dump import resolved_toml
from hpcnn.runs.build import Training
from hpcnn.runs.checkpoints.saver import LAST_PAUSE_S, LAST_TRIES_S, Saver
from hpcnn.runs.display import make_display
from hpcnn.runs.display.console import print_results
from hpcnn.runs.display.live import LiveDisplay
from hpcnn.runs.lease.keeper import LeaseKeeper
from hpcnn.runs.loggers import make_loggers
from hpcnn.runs.records.metrics_log import MetricsLog
from hpcnn.runs.records.progress_file import ProgressFile
from hpcnn.runs.records.time_log import TimeLog, in_words, shares
from hpcnn.runs.run_folder import RunFolder
from hpcnn.runs.run_info import News, RunInfo
from hpcnn.runs.state import pack_model
from hpcnn.runs.timeline.timeline import Timeline
from hpcnn.runs.walltime import WallTime
from hpcnn.storage.checkpoint import save_checkpoint
from hpcnn.system.output import losses, write_line
from hpcnn.training.backend import measured_on
from hpcnn.training.callbacks import Callback
from hpcnn.training.metrics import plain_values, scalars
from hpcnn.training.trainer import Progress, Trainer


@dataclass
class Records:
    """What each rank keeps of a run beside its state. They outlive the loss of other ranks."""

    metrics: MetricsLog
    time: TimeLog
    timeline: Timeline | None = None

    def callbacks(self) -> list[Callback]:
        """Return them all; the timeline first, so that its steps end before the others do what they do."""
        return [*([self.timeline] if self.timeline else []), self.time, self.metrics]


class Run:
    """A training with its folder and display. Rank 0 alone writes and shows. To be made on all ranks.

    Args:
        training: what is trained.
        comm: the ranks.
        folder: where to write.
        base: folder of the job file.
        records: what is kept of it.
        keeper: of the folder's lease, on rank 0.
    """

    def __init__(
        self,
        training: Training,
        comm: Communicator,
        folder: RunFolder,
        base: Path,
        records: Records,
        keeper: LeaseKeeper | None = None,
    ) -> None:
        self._training, self._comm, self._folder, self._base = training, comm, folder, base
        self._records, self._keeper = records, keeper
        self._root = comm.rank == 0
        self._facts = _run_facts(training, comm, folder)
        self._saver = Saver(training, comm, folder, base, self._check)
        self._trace: ProgressFile | None = None

    def begin(self, epochs_done: int, *, recovered: bool) -> None:
        """Make the folder ready for what comes after `epochs_done` epochs.

        Raises:
            CheckpointError: it can't be written to. Not if ranks were lost on the way: training goes on.
        """
        if self._root:
            self._check()
            try:
                self._folder.begin(resolved_toml(self._training.job), self._base)
            except CheckpointError as error:
                if not recovered:
                    raise
                write_line(f"warning: {error}")
        self._records.metrics.begin(epochs_done, writes=self._root, recovered=recovered)

    def go(self, progress: Progress, stop: StopRequest, *, recovered: bool) -> bool:
        """Train until the end or a stop, and return whether it was the end. Collective.

        `progress` grows. `recovered`: ranks were lost, and maybe what they were to save.
        """
        training, root = self._training, self._root
        run = training.job.run
        stop.clock = WallTime(
            60 * run.max_minutes,
            stop.begin,
            state_bytes=3 * training.model.network.layout.size * np.dtype(training.job.train.dtype).itemsize,
            save_seconds=lambda: self._saver.save_seconds,
        )
        display = make_display(run.display, self._facts, run.log_every_s, self._news(progress)) if root else None
        trace = self._trace = ProgressFile(self._folder.progress, self._facts, progress) if root else None
        loggers = make_loggers(training.job, self._folder) if root else []
        trainer = Trainer(
            training.plan,
            self._comm,
            training.replica,
            training.shards,
            training.validation,
            callbacks=[
                *filter(None, [self._keeper]),  # before the others write
                *training.callbacks.values(),
                *self._records.callbacks(),
                *loggers,
                *filter(None, (display, trace)),
            ],
            save=self._saver,
            stop=stop,
            progress=progress,
        )
        if recovered:
            trainer.save_epoch()
        try:
            done = trainer.run()
            self._check()
            self._records.time.gather()
            if self._records.timeline:
                self._records.timeline.finish()
            if trace:
                trace.write()
            return done
        finally:
            for logger in loggers:
                logger.close()
            if isinstance(display, LiveDisplay):
                display.close()

    def _check(self) -> None:
        """Raise LeaseLostError if the folder is another job's by now."""
        if self._keeper is not None:
            self._keeper.check()

    def _news(self, progress: Progress) -> News:
        """Return what a display may ask for while `progress` grows."""

        def loss() -> float | None:
            layout = self._training.replica.layout
            return plain_values(layout.values(progress.totals))["loss"] if progress.step_in_epoch else None

        return News(loss, lambda: self._records.time.slowest)

    def stopped(self, progress: Progress, stop: StopRequest) -> int:
        """Say where the run stopped, and return the exit code. Collective."""
        reasons, saver = self._comm.allgather(stop.reason), self._saver
        self._write_lines()
        if self._root:
            why = next((f" on {reason}" for reason in reasons if reason), "")
            within = f"epoch {progress.epoch + 1}, step {progress.step_in_epoch} of {self._facts.steps_per_epoch}"
            stopped = f"stopped{why} after step {progress.step} ({within})"
            if saver.unsaved:
                since = (
                    "there is no checkpoint" if saver.saved_step is None else f"the last is of step {saver.saved_step}"
                )
                write_line(f"{stopped}, but its state could not be saved ({saver.unsaved}); {since}")
            else:
                write_line(f"{stopped} and saved")
            write_line(f"go on with: --resume {self._folder.path}")
            self._record_losses()
        self._comm.barrier()  # some launchers end the job as soon as one rank leaves so: rank 0 may still be saving
        return EXIT_FAILURE if saver.unsaved else EXIT_STOPPED

    def finish(self, progress: Progress, seconds: float) -> int:
        """Write the finished model and the result, and return the exit code. Collective.

        Raises:
            DriftError: the ranks do not end with the same weights.
            CheckpointError: the model can't be written.
        """
        training = self._training
        sha256 = training.replica.fingerprint()
        for rank, other in enumerate(gather_or_raise(self._comm, sha256)):
            if other != sha256:
                raise DriftError(
                    f"rank {rank} ended with other weights ({other}) than rank {self._comm.rank} ({sha256}): "
                    "memory or a processor is faulty, or the ranks run different software. Nothing was saved as final."
                )
        agree(self._comm, lambda: self._write_result(progress, sha256, seconds) if self._root else None)
        return EXIT_FAILURE if self._comm.broadcast(self._write_lines()) else EXIT_DONE

    def _write_lines(self) -> bool:
        """Write what waits for its file, now or never; return whether some of it is lost."""
        logs: list[MetricsLog | TimeLog] = [self._records.metrics, self._records.time] if self._root else []
        give_up = time.monotonic() + LAST_TRIES_S
        for one in logs:
            while one.log.trouble and time.monotonic() < give_up:
                time.sleep(LAST_PAUSE_S)
                one.write()
            if one.log.trouble:
                write_line(f"error: {len(one.log.waiting)} lines of {one.log.name} are lost: {one.log.trouble}")
        return any(one.log.trouble for one in logs)

    def _write_result(self, progress: Progress, sha256: str, seconds: float) -> None:
        training = self._training
        self._check()
        try:
            save_checkpoint(self._folder.model, pack_model(training, self._base, progress))
            self._folder.write_result(
                {
                    "weights_sha256": sha256,
                    "epochs": progress.epoch,
                    "epochs_asked": training.plan.epochs,
                    "finish": progress.finish,
                    "steps": progress.step,
                    "best": {training.plan.monitor: progress.best},
                    "values": plain_values(progress.values),
                    "seconds": seconds,
                    "time": shares(self._records.time.totals),
                    "ranks": self._comm.size,
                    "shards": training.job.train.shards,
                    "hpcnn": __version__,
                    "machine": measured_on(training.model.backend),
                }
            )
        except OSError as error:
            raise CheckpointError(
                f"the finished model could not be written to {str(self._folder.path)!r}: {error}"
            ) from None
        if training.job.run.display != "quiet":
            rows = {**scalars(progress.values), f"best {training.plan.monitor}": progress.best}
            rows |= {"epochs": progress.epoch, "steps": progress.step, "seconds": round(seconds, 1)}
            words = {"time": in_words(shares(self._records.time.totals)), "model": self._folder.model}
            ended = {"ended early": progress.finish} if progress.finish else {}
            print_results("result", {**rows, **ended, **words})
        write_line(f"weights sha256 {sha256}")
        self._record_losses()

    def _record_losses(self) -> None:
        """Let the folder tell, at the end, that something was not shown."""
        if self._trace and losses():
            self._trace.write()

    def say_notes(self, crowded: str | None) -> None:
        """Say what slows the run down, and what looks amiss in its data."""
        if self._root and self._training.job.run.display != "quiet":
            for note in (*self._comm.notes, *self._training.splits.notes, *([crowded] if crowded else [])):
                write_line(f"warning: {note}")


def _run_facts(training: Training, comm: Communicator, folder: RunFolder) -> RunInfo:
    hosts = len(set(comm.allgather(comm.host)))
    job, splits = training.job, training.splits
    assert isinstance(job.train.shards, int)
    return RunInfo(
        job=job.name,
        folder=str(folder.path),
        ranks=comm.size,
        hosts=hosts,
        shards=job.train.shards,
        samples=len(splits.train),
        validation_samples=len(splits.validation) if splits.validation else 0,
        parameters=training.model.network.layout.size,
        batch_size=training.shards.batch_size,
        steps_per_epoch=training.shards.steps_per_epoch,
        epochs=job.train.epochs,
    )

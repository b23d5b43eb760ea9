"""One training in its run folder, until it is complete or stops: checkpoints, display, logs, result."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from hpcnn import __version__
from hpcnn.comm.collectives import agree, first_or_raise, variants_or_raise
from hpcnn.core.critical_batch import NOISE_SCALE, critical_batch
from hpcnn.core.stop_request import StopRequest
from hpcnn.errors import EXIT_DONE, EXIT_FAILURE, EXIT_STOPPED, CheckpointError, DriftError
from hpcnn.job.dump import toml_settings
from hpcnn.runs.checkpoints.saver import LAST_PAUSE_S, LAST_TRIES_S, Saver
from hpcnn.runs.display import make_display
from hpcnn.runs.display.console import print_results
from hpcnn.runs.display.live import LiveDisplay
from hpcnn.runs.loggers import make_loggers
from hpcnn.runs.prediction.advice import Advice, advise
from hpcnn.runs.records.metrics_log import MetricsLog
from hpcnn.runs.records.progress_file import ProgressFile
from hpcnn.runs.records.time_log import TimeLog, shares, shares_text
from hpcnn.runs.run_context import RunContext
from hpcnn.runs.run_info import LiveStatus, RunInfo
from hpcnn.runs.state import pack_model
from hpcnn.runs.timeline.timeline import Timeline
from hpcnn.runs.walltime import WallTime
from hpcnn.storage.checkpoint import save_checkpoint
from hpcnn.system.blas import fingerprint
from hpcnn.system.output import losses, write_line
from hpcnn.training.backend import machine_info
from hpcnn.training.callbacks import Callback
from hpcnn.training.loop import Progress, StoppedError, TrainingLoop
from hpcnn.training.metrics import plain_values, scalars


class UnsavedError(CheckpointError):
    """The training is done, but its result could not be written."""

    exit_code = EXIT_FAILURE


@dataclass
class Records:
    """The logs of a run on each rank. They outlive the loss of other ranks."""

    metrics: MetricsLog
    time: TimeLog
    timeline: Timeline | None = None

    def callbacks(self) -> list[Callback]:
        """Return all of them, the timeline first, so that its steps end before the others do their work."""
        return [*([self.timeline] if self.timeline else []), self.time, self.metrics]


class Run:
    """A training in its folder, with its display. Made on all ranks; rank 0 alone writes and prints."""

    def __init__(self, context: RunContext, records: Records) -> None:
        self._context, self._records = context, records
        self._training, self._comm, self._folder = context.training, context.comm, context.folder
        self._root = context.is_root
        self._info = _run_info(context)
        self._saver = Saver(context)
        self._progress_file: ProgressFile | None = None

    def prepare_folder(self, epochs_done: int, *, recovered: bool) -> None:
        """Prepare the folder for a training that continues after `epochs_done` epochs.

        If it can't be written to, that is a CheckpointError, or a warning only where ranks were lost (`recovered`).
        """
        if self._root:
            self._context.check_lease()
            try:
                self._folder.begin(toml_settings(self._training.job), self._context.base)
            except CheckpointError as error:
                if not recovered:
                    raise
                write_line(f"warning: {error}")
        self._records.metrics.begin(epochs_done, writes=self._root, recovered=recovered)

    def train(self, progress: Progress, stop: StopRequest, *, save_first: bool) -> bool:
        """Train, and return whether the plan is done; if not, the run was stopped. Collective.

        `save_first`: the checkpoint of the epoch that has ended may be missing: who was to save it was lost.
        """
        training, run = self._training, self._training.job.run
        stop.clock = self._wall_time(stop.begin)
        display = make_display(run.display, self._status(progress), run.log_every_s) if self._root else None
        progress_file = ProgressFile(self._folder.progress, self._status(progress)) if self._root else None
        self._progress_file = progress_file
        loggers = make_loggers(training.job, self._folder) if self._root else []
        loop = self._make_loop(progress, stop, [*loggers, *filter(None, (display, progress_file))])
        if save_first:
            loop.save_epoch()
        try:
            done = True
            try:
                loop.run()
            except StoppedError:
                done = False
            self._context.check_lease()
            self._records.time.gather()
            if self._records.timeline:
                self._records.timeline.finish()
            if progress_file:
                progress_file.write()
            return done
        finally:
            for logger in loggers:
                logger.close()
            if isinstance(display, LiveDisplay):
                display.close()

    def _make_loop(self, progress: Progress, stop: StopRequest, viewers: Sequence[Callback]) -> TrainingLoop:
        training = self._training
        callbacks = [
            *filter(None, [self._context.keeper]),  # before the others write
            *training.callbacks.values(),
            *self._records.callbacks(),
            *viewers,
        ]
        return TrainingLoop(
            training,
            self._comm,
            callbacks=callbacks,
            save=self._saver,
            should_stop=lambda: stop.requested,
            progress=progress,
        )

    def _wall_time(self, begin: float) -> WallTime | None:
        training = self._training
        if not training.job.run.max_minutes:
            return None
        entry_bytes = np.dtype(training.job.train.dtype).itemsize
        return WallTime(
            60 * training.job.run.max_minutes,
            begin,
            state_bytes=3 * training.spec.network.layout.size * entry_bytes,  # weights and two moments
            save_seconds=lambda: self._saver.save_seconds,
        )

    def _status(self, progress: Progress) -> LiveStatus:
        def epoch_loss() -> float | None:
            loss: float | None = plain_values(self._training.replica.model.layout.values(progress.stats))["loss"]
            return loss

        return LiveStatus(self._info, progress, epoch_loss, lambda: self._records.time.straggler)

    def report_stop(self, progress: Progress, stop: StopRequest) -> int:
        """Print where the run stopped, and return the exit code. Collective."""
        reason, saver = first_or_raise(self._comm, stop.reason or None), self._saver
        self._write_waiting_lines()
        if self._root and self._training.job.run.display != "none":
            why = f" on {reason}" if reason else ""
            place = f"epoch {progress.epoch + 1}, step {progress.step_in_epoch} of {self._info.steps_per_epoch}"
            stopped = f"stopped{why} after step {progress.step} ({place})"
            if saver.unsaved:
                write_line(f"{stopped}, but its state could not be saved ({saver.unsaved}); {saver.newest}")
            else:
                write_line(f"{stopped} and saved")
            write_line(f"resume with: --resume {self._folder.path}")
        if self._root:
            self._record_lost_output()
        self._comm.barrier()  # some launchers end the job as soon as one rank exits with a code: rank 0 may be saving
        return EXIT_FAILURE if saver.unsaved else EXIT_STOPPED

    def complete(self, progress: Progress, seconds: float) -> int:
        """Write the finished model and the result, and print the result; return the exit code. Collective.

        Raises:
            DriftError: the weights of the ranks differ.
            UnsavedError: model or result can't be written. The result is printed even so.
        """
        sha256 = self._training.replica.model.fingerprint()
        first, *others = variants_or_raise(self._comm, sha256)
        if others:
            raise DriftError(
                f"rank {others[0].rank} ended with other weights ({others[0].value}) than rank 0 ({first.value}): "
                "memory or a processor is faulty, the ranks run different software, or the model's own code changes "
                "weights. Nothing was saved as final."
            )
        trouble = agree(self._comm, lambda: self._write_result(progress, sha256, seconds) if self._root else "")
        if self._root:
            self._print_result(progress, sha256, seconds, written=not trouble)
        lines_lost = self._comm.broadcast(self._write_waiting_lines())
        agree(self._comm, lambda: self._check_written(trouble))
        return EXIT_FAILURE if lines_lost else EXIT_DONE

    def _write_waiting_lines(self) -> bool:
        """Write the lines that wait for their file a last time; return whether some are lost."""
        logs: list[MetricsLog | TimeLog] = [self._records.metrics, self._records.time] if self._root else []
        give_up = time.monotonic() + LAST_TRIES_S
        for each in logs:
            while each.log.trouble and time.monotonic() < give_up:
                time.sleep(LAST_PAUSE_S)
                each.write()
            if each.log.trouble:
                write_line(f"error: {len(each.log.waiting)} lines of {each.log.name} are lost: {each.log.trouble}")
        return any(each.log.trouble for each in logs)

    def _write_result(self, progress: Progress, sha256: str, seconds: float) -> str:
        """Write the model and the result; return the reason of a failure, empty for success."""
        training, monitor, changes = self._training, self._training.monitor, self._training.data_changes
        self._context.check_lease()
        try:
            model = pack_model(training, self._context.base, progress)
            save_checkpoint(self._folder.model, model, sync_folder=False)  # by the result below, which comes second
            self._folder.write_result(
                {
                    "weights_sha256": sha256,
                    "epochs": progress.epoch,
                    "epochs_asked": training.job.train.epochs,
                    "finish": progress.finish,
                    "steps": progress.step,
                    "best": {monitor: progress.best},
                    "values": plain_values(progress.values),
                    "seconds": seconds,
                    "time": shares(self._records.time.totals),
                    "ranks": self._comm.size,
                    "shards": training.job.train.shards,
                    "hpcnn": __version__,
                    **({"data_changes": msgspec.to_builtins(changes)} if changes else {}),
                    "machine": fingerprint() | machine_info(training.job, training.spec.backend),
                }
            )
        except OSError as error:
            return error.strerror or str(error)
        return ""

    def _check_written(self, trouble: str) -> None:
        """Raise UnsavedError if `trouble` is the reason why model or result could not be written."""
        if trouble:
            path = str(self._folder.path)
            raise UnsavedError(
                f"the finished model could not be written to {path!r} ({trouble}); {self._saver.newest}. Put the "
                f"folder back, or make room, and finish the run with: --resume {path}"
            )

    def _print_result(self, progress: Progress, sha256: str, seconds: float, *, written: bool) -> None:
        training, monitor = self._training, self._training.monitor
        if not training.job.run.quiet:
            values = scalars(progress.values)
            scale = values.pop(NOISE_SCALE, math.nan)
            rows = {**values, f"best {monitor}": progress.best}
            rows |= {"epochs": progress.epoch, "steps": progress.step, "seconds": round(seconds, 1)}
            ended = {"ended early": progress.finish} if progress.finish else {}
            batch = critical_batch(scale, training.shards.batch_size) if not math.isnan(scale) else None
            advice = advise(training.job, self._records.time.times, scale)
            ended |= {"critical batch": batch} if batch else {}
            ended |= {"nodes": advice.verdict} if isinstance(advice, Advice) else {}
            words = {"time": shares_text(shares(self._records.time.totals))}
            model = {"model": self._folder.model} if written else {}
            print_results("result", {**rows, **ended, **words, **model})
        if training.job.run.display != "none":
            write_line(f"weights sha256 {sha256}")
        self._record_lost_output()

    def _record_lost_output(self) -> None:
        if self._progress_file and losses():
            self._progress_file.write()

    def print_notes(self, crowded: str | None, memory: str, shortage: str | None) -> None:
        """Print warnings of what slows the run down, and of what looks wrong in its data; and how much memory it needs.

        `crowded` and `shortage` are warnings, `memory` is a line; each may be empty.
        """
        if self._root and not self._training.job.run.quiet:
            for note in (*self._comm.notes, *self._training.splits.notes, *filter(None, (crowded, shortage))):
                write_line(f"warning: {note}")
            if memory:
                write_line(memory)


def _run_info(context: RunContext) -> RunInfo:
    comm, training = context.comm, context.training
    hosts = len(set(comm.allgather(comm.host)))
    job, splits = training.job, training.splits
    assert isinstance(job.train.shards, int)
    return RunInfo(
        job=job.name,
        folder=str(context.folder.path),
        ranks=comm.size,
        hosts=hosts,
        shards=job.train.shards,
        samples=len(splits.train),
        validation_samples=len(splits.validation) if splits.validation else 0,
        parameters=training.spec.network.layout.size,
        batch_size=training.shards.batch_size,
        steps_per_epoch=training.shards.steps_per_epoch,
        epochs=job.train.epochs,
        characters=len(training.content.vocabulary) if training.content else 0,
    )

"""The training loop: epochs of steps, validation, checkpoints. Every rank runs it in step with the others."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np

from hpcnn.comm.collectives import TreeReduction, first_or_raise, variants_or_raise
from hpcnn.comm.protocol import Communicator
from hpcnn.core import faults
from hpcnn.core.activity import EVALUATE, OTHER
from hpcnn.core.activity import SAVE as SAVING
from hpcnn.errors import DivergedError, DriftError, JobError
from hpcnn.job.checks import monitors
from hpcnn.system.output import write_line
from hpcnn.training.callbacks import Callback, Control, EpochReport, StepReport, improves
from hpcnn.training.collected import Collected
from hpcnn.training.loader import PieceLoader
from hpcnn.training.metrics import Value
from hpcnn.training.model import Model
from hpcnn.training.replica import NotFiniteError
from hpcnn.training.step_stats import COUNT, PENALTY, SAVE, STOP, WEIGHT, Stats
from hpcnn.training.training import Training

_NO_WEIGHT = "no weight"


@dataclass
class Progress:
    """How far the training is: what it takes to resume, with weights and optimizer state."""

    epoch: int = 0
    """Epochs done."""
    step_in_epoch: int = 0
    """Updates done in the current epoch."""
    step: int = 0
    """Updates done in all."""
    stats: Stats = field(default_factory=lambda: np.zeros(0))
    """Stats over the samples of the current epoch so far."""
    best: float | None = None
    """Best value of the monitored metric so far."""
    values: dict[str, Any] = field(default_factory=dict)
    """Values of the last epoch."""
    finish: str = ""
    """Why a callback ended the training. Kept, so that a run that was killed after its end does not train on."""


class Save(Protocol):
    """Writes checkpoints."""

    def due(self, step: int) -> bool:
        """Return whether this rank finds it time for a checkpoint after `step`, counted over the whole training."""

    def __call__(self, progress: Progress, *, best: bool = False, last: bool = False, wait: bool = False) -> None:
        """Save the state. Collective.

        `best`: it is the best so far. `last`: nothing comes after it. `wait`: unless one of them holds, it need not be
        written if the last checkpoint is young.
        """


class StoppedError(Exception):
    """Some rank was asked to stop; raised on all of them."""


class TrainingLoop:
    """Trains until the job's epochs are done, or until some rank is asked to stop.

    `callbacks` are called in this order, on all ranks; `should_stop` once per step, and once per piece of an
    evaluation. The loop advances `progress`, where it starts.
    """

    def __init__(
        self,
        training: Training,
        comm: Communicator,
        *,
        callbacks: Sequence[Callback],
        save: Save,
        should_stop: Callable[[], bool],
        progress: Progress | None = None,
    ) -> None:
        self._training, self._replica, self._comm = training, training.replica, comm
        self._callbacks, self._save, self._should_stop = tuple(callbacks), save, should_stop
        self._stats_layout = training.replica.model.layout
        self.progress = progress or Progress(stats=self._stats_layout.zeros())
        self._activity = comm.activity
        self._load = faults.loading(training.shards.shards)
        self._watched = monitors(training.job)
        """Settings that watch a value, and its name."""
        self._missed: set[str] = set()
        """Those of them whose value was not defined, which was said; and `_NO_WEIGHT`."""
        self._due = False
        """Whether some rank finds it time for a checkpoint."""
        self._on_step = [c.on_step for c in callbacks if type(c).on_step is not Callback.on_step]

    def run(self) -> None:
        """Train to the end of the job. StoppedError: some rank was asked to stop, and a checkpoint is saved."""
        progress = self.progress
        control = Control(progress.finish)
        for callback in self._callbacks:
            callback.on_train_begin(progress.epoch, self._replica)
        try:
            while progress.epoch < self._training.job.train.epochs and not control.reason:
                begin, begun_at = time.perf_counter(), progress.step_in_epoch
                self._train_steps()
                self._end_epoch(time.perf_counter() - begin, begun_at, control)
        except StoppedError:
            self._write(last=True)
            raise
        finally:
            self._training.shards.close()
        for callback in self._callbacks:
            callback.on_train_end(self._replica)

    def _train_steps(self) -> None:
        progress, shards, activity = self.progress, self._training.shards, self._activity
        schedule, stop_at_step = self._training.schedule, self._training.job.run.stop_at_step
        activity.epoch = progress.epoch + 1
        shards.start_epoch(progress.epoch, progress.step_in_epoch, self._replica.owned)
        rate_factor = self._common_rate_factor()
        while progress.step_in_epoch < shards.steps_per_epoch:
            step = activity.step = progress.step + 1
            factor = schedule(progress.step) * rate_factor
            try:
                stats = self._replica.train_step(
                    progress.step,
                    partial(self._load, progress.step_in_epoch),
                    factor=factor,
                    stop=self._should_stop() or step == stop_at_step,
                    save=self._save.due(step),
                )
            except NotFiniteError as error:
                self._diverged(error)
            self._warn_of_nothing(stats)
            progress.stats += stats
            progress.step += 1
            progress.step_in_epoch += 1
            if self._on_step:
                report = StepReport(
                    progress.epoch + 1, progress.step_in_epoch, step, self._replica, factor, stats.copy()
                )  # a copy: callbacks may keep it
                for on_step in self._on_step:
                    on_step(report)
            if stats[STOP]:
                raise StoppedError
            self._due = bool(stats[SAVE])
            if self._due and progress.step_in_epoch < shards.steps_per_epoch:  # else after the evaluation
                self._write()

    def _rate_factor(self) -> float:
        return float(math.prod(callback.rate_factor() for callback in self._callbacks))

    def _common_rate_factor(self) -> float:
        variants = variants_or_raise(self._comm, self._rate_factor())
        for each in variants:
            said = f"{self._where()}: the callbacks of rank {each.rank} multiply the learning rate by {each.value:g}"
            if not 0 <= each.value < math.inf:
                raise JobError(f"{said}. Return a number >= 0 that is finite from rate_factor().")
            if each is not variants[0]:
                raise DriftError(
                    f"{said}, those of rank 0 by {variants[0].value:g}. Return the same rate_factor() on all ranks: "
                    "derive it from the report."
                )
        return variants[0].value

    def _end_epoch(self, train_seconds: float, begun_at: int, control: Control) -> None:
        progress, training = self.progress, self._training
        samples = progress.stats[COUNT] * (1 - begun_at / training.shards.steps_per_epoch)
        values = dict(self._stats_layout.values(progress.stats))
        factor = training.schedule(progress.step - 1) * self._rate_factor()
        rate = self._replica.learning_rate(progress.step - 1, factor)
        begin = time.perf_counter()
        if training.validation is not None:
            model, should_stop = self._replica.model, self._should_stop
            values |= evaluate(self._comm, model, training.validation, prefix="val_", should_stop=should_stop)
            if not np.isfinite(values["val_loss"]):
                raise DivergedError(f"{self._where()}: val_loss is {values['val_loss']}. {_ADVICE}")
        if training.noise_scale is not None:
            values |= training.noise_scale.values()
        progress.epoch, progress.step_in_epoch = progress.epoch + 1, 0
        progress.stats = self._stats_layout.zeros()
        progress.values = values
        seconds = train_seconds + time.perf_counter() - begin
        report = EpochReport(progress.epoch, progress.step, rate, values, seconds, samples / train_seconds)
        self._warn_of_missing(values)
        for callback in self._callbacks:
            callback.on_epoch_end(report, self._replica, control)
        reason = first_or_raise(self._comm, control.reason or None)  # as with signals, one rank is enough
        progress.finish = control.reason = reason or ""
        self._checkpoint(values, done=progress.epoch == training.job.train.epochs or bool(control.reason))

    def _warn_of_nothing(self, stats: Stats) -> None:
        """Say once that a batch has no weight."""
        if not stats[WEIGHT] and _NO_WEIGHT not in self._missed:
            self._missed.add(_NO_WEIGHT)
            if self._comm.rank == 0:
                write_line(
                    f"warning: {self._where()}: all samples of the batch have the weight 0. Such a step is one without "
                    "a gradient of the loss: make train.batch_size larger, or leave samples of weight 0 out."
                )

    def _warn_of_missing(self, values: dict[str, Value]) -> None:
        """Say once of each setting that it watches a value that is not defined."""
        for key, name in self._watched:
            if np.isnan(values[name]) and key not in self._missed:
                self._missed.add(key)
                if self._comm.rank == 0:
                    write_line(
                        f'warning: {key} = "{name}", but {name} is not defined in epoch {self.progress.epoch}, as r2 '
                        "of one sample or of constant targets and auc of one class are not. Such an epoch counts as "
                        "one without improvement: watch another value, as loss."
                    )

    def _checkpoint(self, values: dict[str, Value], *, done: bool) -> None:
        progress, monitor = self.progress, self._training.monitor
        value = values[monitor]
        assert isinstance(value, float)
        best = improves(monitor, value, progress.best)
        if best:
            progress.best = value
        if best or done or self._due or progress.epoch % self._training.job.run.checkpoint_every_epochs == 0:
            self._write(best=best, last=done, wait=not self._due)

    def save_epoch(self) -> None:
        """Save the state that an epoch ended with: what was to save it may be lost. Within an epoch do nothing."""
        progress, training = self.progress, self._training
        if progress.step and not progress.step_in_epoch:
            done = progress.epoch == training.job.train.epochs or bool(progress.finish)
            best = progress.best is not None and progress.values[training.monitor] == progress.best
            self._write(best=best, last=done)

    def _write(self, *, best: bool = False, last: bool = False, wait: bool = False) -> None:
        with self._activity.during(SAVING):
            self._save(self.progress, best=best, last=last, wait=wait)

    def _where(self) -> str:
        return f"step {self.progress.step + 1} (epoch {self.progress.epoch + 1})"

    def _diverged(self, error: NotFiniteError) -> None:
        """Raise DivergedError on all ranks with what the first rank found that found something."""
        comm = self._comm
        found = first_or_raise(comm, (comm.rank, comm.host, f"; {error.where}") if error.where else None)
        rank, host, detail = found or (0, comm.host, "")
        raise DivergedError(f"{self._where()}, rank {rank} on {host}: {error.what} is not finite{detail}. {_ADVICE}")


_ADVICE = (
    "The last checkpoint is as it was. Try a lower optimizer.learning_rate, optimizer.clip_norm = 1.0, a warm-up, "
    "or data.scale."
)


def evaluate(
    comm: Communicator,
    model: Model,
    loader: PieceLoader,
    *,
    prefix: str = "",
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Value]:
    """Return loss and metrics over all samples of `loader`: the same bits on any number of ranks. Collective.

    StoppedError: some rank `should_stop`.
    """
    collected = Collected(model)

    def leaf(i: int) -> Stats:
        comm.activity.enter(EVALUATE)
        if should_stop():
            broken_off = model.layout.zeros()
            broken_off[STOP] = 1
            return broken_off
        return collected.piece(*loader.piece(i))

    with model.unchanged_weights():
        stats = TreeReduction(comm).sum(loader.pieces, leaf)
    comm.activity.enter(OTHER)
    if stats[STOP]:
        raise StoppedError
    stats[PENALTY] = model.penalty() * stats[WEIGHT]
    return {**model.layout.values(stats, prefix), **collected.values(comm, prefix)}

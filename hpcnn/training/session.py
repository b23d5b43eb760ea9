"""One run from start to end: its folder, where it starts from, its checkpoints, its display and its result."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpcnn import __version__
from hpcnn.blas import fingerprint
from hpcnn.comm.collective import agree, gather_or_raise
from hpcnn.comm.protocol import Communicator
from hpcnn.errors import EXIT_DONE, EXIT_STOPPED, CheckpointError, DriftError
from hpcnn.job.dump import resolved_toml
from hpcnn.job.load import LoadedJob
from hpcnn.training.build import Training, build_training, resolve_groups, resolve_shards
from hpcnn.training.callbacks import Callback, Control, EpochReport
from hpcnn.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from hpcnn.training.display import LiveDisplay, RunFacts, make_display, print_results, write_line
from hpcnn.training.metrics import plain_values, scalars
from hpcnn.training.replica import Replica
from hpcnn.training.run_folder import RunFolder, Start, choose_start
from hpcnn.training.saving import Saver
from hpcnn.training.state import check_same_job, pack_model, unpack
from hpcnn.training.stop import StopRequest
from hpcnn.training.trainer import Progress, Trainer
from hpcnn.training.tuning import use_cores


def train(loaded: LoadedJob, comm: Communicator, *, out: Path | None, resume: str) -> int:
    """Train the job, or go on with it, and return the exit code. Collective."""
    begin = time.perf_counter()
    chosen = agree(comm, lambda: _on_root(comm, lambda: choose_start(loaded.job.name, out, resume)))
    start: Start = comm.broadcast(chosen)
    checkpoint = agree(comm, lambda: _same_everywhere(comm, start.checkpoint))
    before = checkpoint.facts["job"]["train"] if checkpoint else {}
    job = resolve_shards(loaded.job, before.get("shards", comm.size))
    first = before.get("compression_groups", "auto")  # as many as there were nodes at the start, if they were open
    job = agree(comm, lambda: resolve_groups(job, comm.nodes if first == "auto" else first))
    if checkpoint is not None:
        agree(comm, lambda: check_same_job(checkpoint.facts["job"], job))
    finished = comm.broadcast(agree(comm, lambda: _on_root(comm, start.folder.read_result)))
    if finished is not None and finished.get("epochs_asked", 0) >= job.train.epochs:
        if comm.rank == 0:
            write_line(f"the run in {start.folder.path} is complete already")
            write_line(f"weights sha256 {finished['weights_sha256']}")
        return EXIT_DONE
    training = agree(comm, lambda: build_training(job, loaded.base, comm))
    run = _Run(training, comm, start.folder, loaded.base)
    return run.go(checkpoint, begin)


def _on_root(comm: Communicator, action: Callable[[], Any]) -> Any:
    return action() if comm.rank == 0 else None


def _same_everywhere(comm: Communicator, path: Path | None) -> Checkpoint | None:
    """Return the checkpoint at `path`, which every rank must see alike: a network file system may lag behind."""
    if path is None:
        return None
    checkpoint = load_checkpoint(path)
    hashes = gather_or_raise(comm, (checkpoint.content_sha256, comm.host))
    for rank, (sha256, host) in enumerate(hashes):
        if sha256 != hashes[0][0]:
            raise CheckpointError(
                f"rank {rank} on {host} reads another {str(path)!r} than rank 0 on {hashes[0][1]} does. "
                "Use a folder that all nodes share, and try again once it is in step."
            )
    return checkpoint


class _MetricsLog(Callback):
    """Writes a line of JSON an epoch."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    def on_epoch_end(self, report: EpochReport, replica: Replica, control: Control) -> None:
        line = {
            "epoch": report.epoch,
            "step": report.step,
            "learning_rate": report.learning_rate,
            **plain_values(report.values),
            "seconds": report.seconds,
            "samples_per_s": report.samples_per_s,
        }
        try:
            self._folder.append_metrics(line)
        except OSError as error:
            write_line(f"warning: epoch {report.epoch} was not logged ({error}); training goes on")


class _Run:
    """A training with its folder and display. Rank 0 alone writes and shows."""

    def __init__(self, training: Training, comm: Communicator, folder: RunFolder, base: Path) -> None:
        self._training, self._comm, self._folder, self._base = training, comm, folder, base
        self._root = comm.rank == 0
        self._facts = _run_facts(training, comm, folder)

    def go(self, checkpoint: Checkpoint | None, begin: float) -> int:
        training, comm = self._training, self._comm
        progress = None
        if checkpoint is not None:
            progress = agree(comm, lambda: unpack(checkpoint, training))
        else:
            training.replica.synchronize()
        epochs_done = progress.epoch if progress else 0
        agree(comm, lambda: _on_root(comm, lambda: self._begin(epochs_done)))
        self._say_notes(use_cores(comm, training.replica))
        self._warn_of_machines(checkpoint)
        run = training.job.run
        display = make_display(run.display, self._facts, run.log_every_s) if self._root else None
        output: list[Callback] = [_MetricsLog(self._folder)] if self._root else []
        with StopRequest() as stop:
            trainer = Trainer(
                training.plan,
                comm,
                training.replica,
                training.shards,
                training.validation,
                callbacks=[*training.callbacks.values(), *output, *([display] if display else [])],
                save=Saver(training, comm, self._folder, self._base),
                stop=stop,
            )
            trainer.progress = progress or trainer.progress
            try:
                done = trainer.run()
            finally:
                if isinstance(display, LiveDisplay):
                    display.close()
        seconds = time.perf_counter() - begin
        return self._finish(trainer.progress, seconds) if done else self._stopped(trainer.progress, stop)

    def _begin(self, epochs_done: int) -> None:
        self._folder.begin(resolved_toml(self._training.job))
        self._folder.keep_metrics(epochs_done)

    def _stopped(self, progress: Progress, stop: StopRequest) -> int:
        if self._root:
            why = f" on {stop.reason}" if stop.reason else ""
            within = f"epoch {progress.epoch + 1}, step {progress.step_in_epoch} of {self._facts.steps_per_epoch}"
            write_line(f"stopped{why} after step {progress.step} ({within}) and saved")
            write_line(f"go on with: --resume {self._folder.path}")
        self._comm.barrier()  # some launchers end the job as soon as one rank leaves so: rank 0 may still be saving
        return EXIT_STOPPED

    def _finish(self, progress: Progress, seconds: float) -> int:
        training = self._training
        sha256 = training.replica.fingerprint()
        for rank, other in enumerate(gather_or_raise(self._comm, sha256)):
            if other != sha256:
                raise DriftError(
                    f"rank {rank} ended with other weights ({other}) than rank {self._comm.rank} ({sha256}): "
                    "memory or a processor is faulty, or the ranks run different software. Nothing was saved as final."
                )
        if not self._root:
            return EXIT_DONE
        try:
            save_checkpoint(self._folder.model, pack_model(training, self._base, progress))
            self._folder.write_result(
                {
                    "weights_sha256": sha256,
                    "epochs": progress.epoch,
                    "epochs_asked": training.plan.epochs,
                    "steps": progress.step,
                    "best": {training.plan.monitor: progress.best},
                    "values": plain_values(progress.values),
                    "seconds": seconds,
                    "ranks": self._comm.size,
                    "shards": training.job.train.shards,
                    "hpcnn": __version__,
                    "machine": fingerprint(),
                }
            )
        except OSError as error:
            raise CheckpointError(
                f"the finished model could not be written to {str(self._folder.path)!r}: {error}"
            ) from None
        if training.job.run.display != "quiet":
            rows = {**scalars(progress.values), f"best {training.plan.monitor}": progress.best}
            rows |= {"epochs": progress.epoch, "steps": progress.step, "seconds": round(seconds, 1)}
            print_results("result", {**rows, "model": self._folder.model})
        write_line(f"weights sha256 {sha256}")
        return EXIT_DONE

    def _say_notes(self, crowded: str | None) -> None:
        """Say, once, what slows the run down."""
        if self._root and self._training.job.run.display != "quiet":
            for note in (*self._comm.notes, *([crowded] if crowded else [])):
                write_line(f"warning: {note}")

    def _warn_of_machines(self, checkpoint: Checkpoint | None) -> None:
        """Say so, once, where bits may differ: unlike machines in this run, or since the run's start."""
        machines = self._comm.allgather(fingerprint())
        if not self._root:
            return
        if any(machine != machines[0] for machine in machines):
            rank = next(rank for rank, machine in enumerate(machines) if machine != machines[0])
            write_line(
                "warning: the ranks run on unlike machines, so the bits of the result may depend on which does what: "
                f"rank 0 {machines[0]}, rank {rank} {machines[rank]}"
            )
        if checkpoint is not None and checkpoint.facts.get("machine") != machines[0]:
            write_line(
                "warning: the run was started on another machine or library, so the bits of the result may differ: "
                f"then {checkpoint.facts.get('machine')}, now {machines[0]}"
            )


def _run_facts(training: Training, comm: Communicator, folder: RunFolder) -> RunFacts:
    hosts = len(set(comm.allgather(comm.host)))
    job, splits = training.job, training.splits
    assert isinstance(job.train.shards, int)
    return RunFacts(
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

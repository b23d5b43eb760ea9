"""When a run's checkpoints are written, which are kept, and what happens when they can't be."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

from hpcnn.comm.protocol import Communicator
from hpcnn.core.activity import SAVE, WAIT
from hpcnn.runs.build import Training
from hpcnn.runs.run_folder import RunFolder
from hpcnn.runs.state import pack
from hpcnn.storage.checkpoint import Checkpoint, PendingCheckpoint, save_checkpoint
from hpcnn.system.output import write_line
from hpcnn.training.trainer import Progress

_SMALL_BYTES = 64 * 2**20
"""A state up to this size may wait in memory."""
_RETRY_S, _RETRY_SHARE = 20.0, 20
"""After a save that failed, the next try is so many seconds later, or else so many times what that one took."""
LAST_TRIES_S, LAST_PAUSE_S = 5.0, 1.0
"""How long the last state of all is tried to be saved, and the pause between two tries."""


class Saver:
    """Writes the checkpoints of one run. Every rank has one; rank 0's writes, and its clock counts.

    A file that can't be written ends no run: rank 0 says so, the files there are stay, and it is tried again.

    Args:
        training: what is saved.
        comm: the ranks.
        folder: where to.
        base: folder of the job file.
        check: raises an error if the folder is not this job's any more.
    """

    def __init__(
        self,
        training: Training,
        comm: Communicator,
        folder: RunFolder,
        base: Path,
        check: Callable[[], object] = lambda: None,
    ) -> None:
        self._training, self._comm, self._folder, self._base, self._check = training, comm, folder, base, check
        self._root, self._run = comm.rank == 0, training.job.run
        self._most_s = 60 * self._run.checkpoint_every_minutes or math.inf
        self._saved_at = time.monotonic()
        self._retry_at = 0.0
        self._best: Checkpoint | None = None
        """The best state, if it is not written yet."""
        self._deleting: Thread | None = None
        self.saved_step: int | None = None
        """The step of the last save that succeeded. Like the two below, the same on all ranks."""
        self.save_seconds: float | None = None
        """How long that took."""
        self.unsaved = ""
        """Why the newest state that was to be saved is not; empty if it is."""

    def due(self, step: int) -> bool:
        """Return whether this rank finds it time for a checkpoint after `step`."""
        every = self._run.checkpoint_every_steps
        if every and step % every == 0:
            return True
        now = time.monotonic()
        return self._root and now >= self._retry_at and (bool(self.unsaved) or now >= self._saved_at + self._most_s)

    def __call__(self, progress: Progress, *, best: bool = False, last: bool = False, wait: bool = False) -> None:
        """Write what is due. Short epochs would else spend their time on syncing files: their best state waits."""
        may = last or self._comm.broadcast(self._may_write(wait))
        if not (may or best):
            return
        draft = pack(self._training, self._base, progress)
        if draft.size_bytes > _SMALL_BYTES:
            self._save(draft, progress.step, best=best, last=last)
            return
        state = self._take(draft)
        if best:
            self._best = state
        if may:
            self._save(state, progress.step, best=best, last=last)

    def _may_write(self, wait: bool) -> bool:
        now = time.monotonic()
        young = now < self._saved_at + self._run.checkpoint_gap_s
        return now >= self._retry_at and not (wait and young)

    def _take(self, draft: PendingCheckpoint) -> Checkpoint | None:
        """Return a copy of the state on rank 0, None elsewhere."""
        if self._root:
            return draft.collect()
        draft.participate()
        return None

    def _save(self, content: PendingCheckpoint | Checkpoint | None, step: int, *, best: bool, last: bool) -> None:
        """Write a state, and let all ranks know whether that succeeded."""
        give_up = time.monotonic() + LAST_TRIES_S
        again = True
        while again:
            begin, trouble = time.monotonic(), ""
            if self._root:
                assert content is not None
                trouble = self._write(content, step, best)
            elif isinstance(content, PendingCheckpoint):
                with self._comm.activity.during(WAIT):
                    content.participate()
            took = time.monotonic() - begin
            self._comm.barrier(spin=False)  # what the others do not burn, rank 0 hashes with
            again = bool(trouble) and last and time.monotonic() < give_up
            trouble, took, again = self._comm.broadcast((trouble, took, again))
            if again:
                self._beat()
                time.sleep(LAST_PAUSE_S)
        self._note(step, trouble, took)

    def _write(self, content: PendingCheckpoint | Checkpoint, step: int, best: bool) -> str:
        """Write a state; return what went wrong, empty if nothing did."""
        folder = self._folder
        self._check()
        try:
            folder.checkpoints.mkdir(exist_ok=True)
            if self._best is not None and not best:  # first: a run killed between the two comes to this epoch again
                save_checkpoint(folder.best, self._best, beat=self._beat)
                self._best = None
        except OSError as error:
            if isinstance(content, PendingCheckpoint):
                content.participate()
            return _reason(error)
        try:
            names = [folder.best, folder.last] if best else [folder.last]
            save_checkpoint(folder.at_step(step), content, also=names, beat=self._beat)
        except OSError as error:
            return _reason(error)
        if best:
            self._best = None
        self.settle()
        self._check()
        self._deleting = Thread(target=folder.drop_old, args=(step, self._run.keep_checkpoints), daemon=True)
        self._deleting.start()  # apart: it takes a third of a second a GB
        return ""

    def _beat(self) -> None:
        """Say that a save gets on, and let it end where it must not."""
        self._comm.activity.enter(SAVE)
        self._check()

    def settle(self) -> None:
        """Return once no older file is being deleted any more."""
        if self._deleting is not None:
            self._deleting.join()

    def _note(self, step: int, trouble: str, took: float) -> None:
        """Remember how it went, and say so when that changes."""
        now = time.monotonic()
        if trouble:
            self._retry_at = now + max(_RETRY_S, min(_RETRY_SHARE * took, self._most_s))
            if self._root and trouble != self.unsaved:
                write_line(
                    f"warning: the checkpoint at step {step} was not saved in {self._folder.checkpoints} ({trouble}); "
                    "training goes on, and it is tried again"
                )
        else:
            if self._root and self.unsaved:
                write_line(f"checkpoints are saved again in {self._folder.checkpoints}, at step {step}")
            self.saved_step, self.save_seconds = step, took
            self._saved_at, self._retry_at = now, 0.0
        self.unsaved = trouble


def _reason(error: OSError) -> str:
    return error.strerror or str(error)

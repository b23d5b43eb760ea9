"""When a run's checkpoints are written, how many are kept, and what happens when one can't be written."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread

from hpcnn.core.activity import SAVE
from hpcnn.runs.checkpoints.together import reason, save_together
from hpcnn.runs.run_context import RunContext
from hpcnn.runs.state import facts_of_training, pack
from hpcnn.storage.checkpoint import Checkpoint, PendingCheckpoint, save_checkpoint
from hpcnn.system.output import write_line
from hpcnn.training.loop import Progress

_SMALL_BYTES = 64 * 2**20
"""A state up to this size may wait in memory."""
_RETRY_S, _RETRY_SHARE = 20.0, 20
"""A failed save is retried after this many seconds, or after this many times its own duration if that is longer."""
LAST_TRIES_S, LAST_PAUSE_S = 5.0, 1.0
"""For how long the last save of all is retried, and the pause between two tries."""


class Saver:
    """Writes the checkpoints of one run. Every rank has one, and the clock of rank 0 decides.

    Of a large state every rank writes its part; a small one is brought to rank 0, which writes it.

    A failed save does not end the run: rank 0 warns, the existing files stay, and the save is retried.
    """

    def __init__(self, context: RunContext) -> None:
        self._context, self._comm, self._folder = context, context.comm, context.folder
        training = context.training
        self._root, self._run = context.is_root, training.job.run
        self._lasting = facts_of_training(training, context.base)
        self._most_s = 60 * self._run.checkpoint_every_minutes or math.inf
        self._saved_at = time.monotonic()
        self._retry_at = 0.0
        self._best: Checkpoint | None = None
        """The best state, if it is not written yet."""
        self._deleting: Thread | None = None
        self.saved_step: int | None = None
        """The step of the last save that succeeded. Like the two below, the same on all ranks."""
        self.save_seconds: float | None = None
        """The duration of that save."""
        self.unsaved = ""
        """Why the last save failed; empty if it succeeded."""

    @property
    def newest(self) -> str:
        """The last save that succeeded, in words."""
        step = self.saved_step
        return "this job has saved no checkpoint" if step is None else f"the newest checkpoint is of step {step}"

    def due(self, step: int) -> bool:
        """Return whether a checkpoint is due after `step`, as far as this rank knows."""
        every = self._run.checkpoint_every_steps
        if every and step % every == 0:
            return True
        now = time.monotonic()
        return self._root and now >= self._retry_at and (bool(self.unsaved) or now >= self._saved_at + self._most_s)

    def __call__(self, progress: Progress, *, best: bool = False, last: bool = False, wait: bool = False) -> None:
        """Write the state if it is due. The best state of short epochs waits, so that not all time goes to syncs."""
        may = last or self._comm.broadcast(self._may_write(wait))
        if not (may or best):
            return
        pending = pack(self._context.training, self._context.base, progress, self._lasting)
        if pending.size_bytes > _SMALL_BYTES:
            self._save(pending, progress.step, best=best, last=last)
            return
        state = self._collect(pending)
        if best:
            self._best = state
        if may:
            self._save(state, progress.step, best=best, last=last)

    def _may_write(self, wait: bool) -> bool:
        now = time.monotonic()
        young = now < self._saved_at + self._run.checkpoint_gap_s
        return now >= self._retry_at and not (wait and young)

    def _collect(self, pending: PendingCheckpoint) -> Checkpoint | None:
        if self._root:
            return pending.collect()
        pending.participate()
        return None

    def _save(self, content: PendingCheckpoint | Checkpoint | None, step: int, *, best: bool, last: bool) -> None:
        give_up = time.monotonic() + LAST_TRIES_S
        again = True
        while again:
            begin, trouble = time.monotonic(), ""
            if isinstance(content, PendingCheckpoint) or self._root:
                assert content is not None
                trouble = self._write(content, step, best)
            took_s = time.monotonic() - begin
            self._comm.barrier(spin=False)  # rank 0 hashes on the cores that the others leave idle
            again = bool(trouble) and last and time.monotonic() < give_up
            trouble, took_s, again = self._comm.broadcast((trouble, took_s, again))
            if again:
                self._beat()
                time.sleep(LAST_PAUSE_S)
        self._record(step, trouble, took_s, last=last)

    def _write(self, content: PendingCheckpoint | Checkpoint, step: int, best: bool) -> str:
        """Write a state; return the reason of a failure, empty for success. Collective for one that is pending."""
        folder = self._folder
        path, names = folder.at_step(step), [folder.best, folder.last] if best else [folder.last]

        def prepare() -> None:
            self._context.check_lease()
            folder.checkpoints.mkdir(exist_ok=True)
            if self._best is not None and not best:  # first: a run killed between the two does this epoch again
                save_checkpoint(folder.best, self._best, beat=self._beat, sync_folder=False)  # the next save does so

        if isinstance(content, PendingCheckpoint):
            trouble = save_together(self._comm, content, path, also=names, beat=self._beat, prepare=prepare)
        else:
            trouble = ""
            try:
                prepare()
                save_checkpoint(path, content, also=names, beat=self._beat)
            except OSError as error:
                trouble = reason(error)
        if self._root and not trouble:
            self._tidy(step)
        return trouble

    def _tidy(self, step: int) -> None:
        """Delete the older files after a save."""
        self._best = None
        self.wait_for_deletion()
        self._context.check_lease()
        if old := self._folder.old_files(step, self._run.keep_checkpoints):
            self._deleting = Thread(target=_delete, args=(old,), daemon=True)
            self._deleting.start()  # on a thread: deleting takes a third of a second per GB

    def _beat(self) -> None:
        """Show the watchdog progress, and end the save if the folder is another job's."""
        self._comm.activity.enter(SAVE)
        self._context.check_lease()

    def wait_for_deletion(self) -> None:
        """Return once no older file is being deleted."""
        if self._deleting is not None:
            self._deleting.join()

    def _record(self, step: int, trouble: str, took_s: float, *, last: bool) -> None:
        now = time.monotonic()
        if trouble:
            self._retry_at = now + max(_RETRY_S, min(_RETRY_SHARE * took_s, self._most_s))
            place = self._folder.checkpoints
            if self._root and last:
                write_line(f"warning: the last checkpoint was not saved in {place} ({trouble}); {self.newest}")
            elif self._root and trouble != self.unsaved:
                write_line(
                    f"warning: the checkpoint at step {step} was not saved in {place} ({trouble}); "
                    "training continues, and it is tried again"
                )
        else:
            if self._root and self.unsaved:
                write_line(f"checkpoints are saved again in {self._folder.checkpoints}, at step {step}")
            self.saved_step, self.save_seconds = step, took_s
            self._saved_at, self._retry_at = now, 0.0
        self.unsaved = trouble


def _delete(files: Sequence[Path]) -> None:
    for path in files:
        with suppress(OSError):  # the folder may be moved away meanwhile
            path.unlink()

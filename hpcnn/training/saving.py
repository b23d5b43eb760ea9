"""When a run's checkpoints are written, and which are kept."""

from __future__ import annotations

import time
from pathlib import Path

from hpcnn.comm.protocol import Communicator
from hpcnn.training.build import Training
from hpcnn.training.checkpoint import Checkpoint, save_checkpoint
from hpcnn.training.display import write_line
from hpcnn.training.run_folder import RunFolder
from hpcnn.training.state import pack
from hpcnn.training.trainer import Progress


class Saver:
    """Writes the checkpoints of one run. Every rank has one; rank 0's writes.

    Args:
        training: what is saved.
        comm: the ranks.
        folder: where to.
        base: folder of the job file.
    """

    def __init__(self, training: Training, comm: Communicator, folder: RunFolder, base: Path) -> None:
        self._training, self._comm, self._folder, self._base = training, comm, folder, base
        self._saved_at = time.monotonic()
        self._best: Checkpoint | None = None
        """The best state, if it is not written yet."""

    def due(self, step: int) -> bool:
        """Return whether this rank finds it time for a checkpoint after `step`."""
        return False

    def __call__(self, progress: Progress, *, best: bool = False, last: bool = False, wait: bool = False) -> None:
        """Write what is due. Short epochs would else spend their time on syncing files: their best state waits."""
        young = time.monotonic() - self._saved_at < self._training.job.run.checkpoint_gap_s
        due = last or not wait or not self._comm.broadcast(young)
        if not (best or due):
            return
        state = pack(self._training, self._base, progress)
        if state is None:
            return
        if best:
            self._best = state
        if not due:
            return
        try:
            if self._best is not None:  # first: if the run is killed between the two, it comes to this epoch again
                save_checkpoint(self._folder.best, self._best)
            save_checkpoint(self._folder.last, state)
            self._best, self._saved_at = None, time.monotonic()
        except OSError as error:
            write_line(f"warning: the checkpoint at step {progress.step} was not saved ({error}); training goes on")

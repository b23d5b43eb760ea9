"""``metrics.jsonl``: one line per epoch, each exactly once, whatever happens to the disk and to other ranks."""

from __future__ import annotations

from hpcnn.comm.protocol import Communicator
from hpcnn.runs.records.line_log import Line, LineLog
from hpcnn.runs.run_folder import RunFolder
from hpcnn.training.callbacks import Callback, Control, EpochReport
from hpcnn.training.replica import Replica

TELL_EPOCHS = 1000
"""Every so many epochs, the rank that writes tells the others which lines they may forget."""


class MetricsLog(Callback):
    """Writes one line of JSON per epoch. Every rank has one; that of rank 0 writes.

    `heirs` are the ranks, if they are to keep the lines as well, since the one that writes may be lost.
    """

    def __init__(self, folder: RunFolder, heirs: Communicator | None = None) -> None:
        self._folder, self._heirs = folder, heirs
        self._writes = False
        self._done: int | None = None
        """The epochs that were done when this rank began to write; None once the file is updated to them."""
        self.log = LineLog(folder.metrics)

    def begin(self, epochs: int, *, writes: bool, recovered: bool = False) -> None:
        """Keep the lines of the first `epochs` epochs, on the rank that writes from now on.

        CheckpointError: the file can't be updated. With `recovered` this is retried later instead.
        """
        self._writes = writes
        self.log.waiting = [line for line in self.log.waiting if line["epoch"] <= epochs]
        if writes:
            self._done = epochs
            if not recovered:
                self.log.waiting = self._update_file()
            self.write()

    def on_epoch_end(self, report: EpochReport, replica: Replica, control: Control) -> None:
        """Write the epoch's line."""
        if self._writes or self._heirs is not None:
            self.log.waiting.append(report.line())
        if self._writes:
            self.write()
        if self._heirs is not None and report.epoch % TELL_EPOCHS == 0:
            self.log.keep(self._heirs.broadcast(len(self.log.waiting)))

    def write(self) -> None:
        """Write the waiting lines."""
        self.log.write(None if self._done is None else self._update_file)

    def _update_file(self) -> list[Line]:
        """Delete the epochs that are about to be done again; return the waiting lines that the file lacks."""
        assert self._done is not None
        held = self._folder.keep_metrics(self._done)
        self._done = None
        return [line for line in self.log.waiting if held < line["epoch"]]
